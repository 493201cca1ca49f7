"""Backups of the control plane's database: base backups, a stream of its write-ahead log, and the way back."""
