"""API keys: who calls. Only a digest under a versioned pepper is stored."""
