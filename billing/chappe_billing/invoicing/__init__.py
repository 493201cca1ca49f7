"""Issuing invoices: what is posted and not invoiced becomes lines, deductions and tax, and is posted as owed."""
