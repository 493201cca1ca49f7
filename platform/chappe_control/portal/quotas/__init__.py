"""The page of what the organisation may use, and who said so."""
