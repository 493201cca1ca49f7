"""Limits per minute and at once over all gateways of a region, and repeats."""
