"""Every row that a request touched, and how its price came about."""
