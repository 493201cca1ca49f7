"""How requests come in: HTTP, its bounds, and what failures become."""
