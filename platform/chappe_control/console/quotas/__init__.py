"""A tenant's quotas in the console: what holds, and raising it for a time."""
