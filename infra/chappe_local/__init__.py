"""A whole Chappe on one machine: embedded services, one supervisor, and the commands that a person types."""
