"""Deployments: what should run in each region, and what does."""
