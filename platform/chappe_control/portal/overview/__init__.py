"""What a tenant has, spends and uses, at a glance and live."""
