"""What tenants let their region keep: the cell's encrypted content store."""
