"""Sending invoices, advance invoices and credit notes by mail, once each."""
