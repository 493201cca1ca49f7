"""The OpenAPI document of the public API."""
