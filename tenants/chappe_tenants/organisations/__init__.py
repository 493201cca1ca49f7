"""Organisations that buy inference. Each is one tenant: the unit of isolation, of money and of residency."""
