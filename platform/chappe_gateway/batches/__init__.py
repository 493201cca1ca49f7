"""`/v1/batches`: many requests out of a file, run when nobody else waits."""
