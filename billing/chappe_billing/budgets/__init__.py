"""Budgets: what each tenant has, has spent and has lent to gateways."""
