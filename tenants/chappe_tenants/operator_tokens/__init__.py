"""Tokens of the operator's people, for their programs."""
