"""The audit log: who changed what, from where and when, in a chain that shows every later edit."""
