"""What a tenant's members see: overview, requests, keys, playground."""
