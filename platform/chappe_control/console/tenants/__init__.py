"""Tenants as the operator sees them: who they are, what they have and what they use."""
