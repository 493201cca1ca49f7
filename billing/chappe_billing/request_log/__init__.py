"""What a tenant reads about its requests: the log, and each request's own page."""
