"""A month's end: the entries that a tenant's contract asks for, once, and then the month is closed."""
