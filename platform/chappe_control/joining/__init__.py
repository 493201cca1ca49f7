"""From an invitation to a member: how the link gets to the invited, and what happens behind it."""
