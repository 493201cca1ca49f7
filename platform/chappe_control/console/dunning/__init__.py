"""The page of who owes something, and how it is asked for."""
