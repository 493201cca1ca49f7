"""Regions: where inference runs, who may speak for each, and which are healthy."""
