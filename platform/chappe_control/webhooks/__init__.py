"""Tenants' webhooks: what happened, signed, sent to an address of their own that is not one of ours."""
