"""Asking for what is overdue: reminders, notices, new tries to collect, suspension, and what lifts it."""
