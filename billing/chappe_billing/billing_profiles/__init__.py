"""Whom a tenant's invoices go to, and what has to stand on them."""
