"""Usage events: ingestion, rating, posting and rollups."""
