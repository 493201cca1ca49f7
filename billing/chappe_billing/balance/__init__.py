"""What a tenant reads about its money."""
