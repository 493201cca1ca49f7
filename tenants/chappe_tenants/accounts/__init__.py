"""Accounts: who signs in. One account may be a member of several organisations."""
