"""Ray Serve applications and the inference engines behind one protocol."""
