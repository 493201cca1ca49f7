"""The price book, read only."""
