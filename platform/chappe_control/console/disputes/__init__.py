"""The page where somebody decides about usage that is disputed or could not be posted."""
