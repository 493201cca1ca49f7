"""The price book: immutable versions per listing and region."""
