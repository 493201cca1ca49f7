"""The organisation itself: who it is in law, where it may run, and in which state it is."""
