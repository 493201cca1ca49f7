"""People of the operator."""
