"""Idempotency-Key: a repeated POST does not happen twice."""
