"""The organisations of whoever is signed in."""
