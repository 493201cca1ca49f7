"""Usage as files: CSV and JSON Lines request by request, and FOCUS 1.2 for tools that compare clouds' costs."""
