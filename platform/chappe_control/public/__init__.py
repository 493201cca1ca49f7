"""The public API `/api/v1`, for management keys."""
