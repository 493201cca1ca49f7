"""Usage to take away: a form, and the file."""
