"""Money that came in and nobody knows yet for whom."""
