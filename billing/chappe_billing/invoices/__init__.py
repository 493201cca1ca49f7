"""Invoices, advance invoices and credit notes: issued from the ledger, numbered without a gap, settled by payments."""
