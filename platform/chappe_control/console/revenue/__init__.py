"""Usage and revenue of a day, compared with the day before and with the ledger."""
