"""Every request that was settled, and what each cost."""
