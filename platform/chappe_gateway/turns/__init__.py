"""Who is next at a busy deployment."""
