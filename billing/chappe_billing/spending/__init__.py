"""Monthly budgets: what was spent within them, when they are announced, and when they stop."""
