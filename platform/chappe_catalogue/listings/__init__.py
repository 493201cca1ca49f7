"""Listings: models as they are sold, and where."""
