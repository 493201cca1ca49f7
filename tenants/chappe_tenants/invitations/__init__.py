"""Invitations: an organisation asks somebody to become a member, by a link that only their mailbox receives."""
