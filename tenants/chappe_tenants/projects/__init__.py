"""Projects divide a tenant. Each may narrow where its requests run."""
