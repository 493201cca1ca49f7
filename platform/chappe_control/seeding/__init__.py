"""Making tenants from the command line."""
