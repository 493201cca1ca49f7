"""Retention of usage: minutes and whole months go, what they summed to stays."""
