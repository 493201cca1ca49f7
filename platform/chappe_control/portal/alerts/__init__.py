"""The page of alerts: where the month is going, and who is told of what."""
