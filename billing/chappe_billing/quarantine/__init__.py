"""Usage that could not be posted, as a queue that the operator works off."""
