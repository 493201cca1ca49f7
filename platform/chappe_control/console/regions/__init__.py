"""Regions as the operator watches them: which cells live, which suffer, and why."""
