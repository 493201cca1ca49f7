"""The rated-usage feed: everything that moves a tenant's money, in numbered batches, for the operator's own BSS."""
