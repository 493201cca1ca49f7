"""Recomputing everything from the records: `chappe ledger verify`."""
