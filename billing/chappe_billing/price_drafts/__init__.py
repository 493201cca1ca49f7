"""Drafts of prices: edited, compared with what is in force, reckoned with last month's usage, published as one."""
