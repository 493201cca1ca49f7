"""The tenant's balance, and how it pays."""
