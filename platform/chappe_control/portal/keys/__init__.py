"""The tenant's API keys: made, shown once, revoked."""
