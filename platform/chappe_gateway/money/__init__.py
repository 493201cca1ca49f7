"""Budgets: what is leased, held and given back."""
