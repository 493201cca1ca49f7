"""Signing up, in and out: of the portal as a member, of the console as a user of the operator's."""
