"""What both planes share: ids, money, rating, residency, keys, errors, settings and wire messages."""
