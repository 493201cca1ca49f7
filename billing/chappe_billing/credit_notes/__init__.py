"""Credit notes: what takes an issued invoice back, as a whole or line by line. The invoice stays as it is."""
