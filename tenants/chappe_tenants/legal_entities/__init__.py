"""The operator's own companies: who sells to a tenant, and whose books its money is in."""
