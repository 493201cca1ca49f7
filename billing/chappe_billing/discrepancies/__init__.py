"""Where the two witnesses of a request disagree, and what the operator decided about it."""
