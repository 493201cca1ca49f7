"""What the API gives and takes, a file per noun."""
