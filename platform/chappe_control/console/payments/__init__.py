"""The operator's view of payments."""
