"""The organisation's people: members, their roles, and who is invited."""
