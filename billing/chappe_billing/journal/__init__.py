"""A month's movements as a journal for the operator's general ledger."""
