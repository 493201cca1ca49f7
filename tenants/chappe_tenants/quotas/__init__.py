"""Quotas: what each level from the plan to the key allows, and what therefore holds."""
