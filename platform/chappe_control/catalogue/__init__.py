"""Applying the operator's catalogue: regions, models, prices and deployments."""
