"""Grants: blocks of budget leased to gateways."""
