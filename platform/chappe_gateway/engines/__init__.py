"""The region's engines: calling them, relaying what they answer, whether they do."""
