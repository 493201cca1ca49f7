"""What was used: settled, spooled, shipped, and matched with what engines say."""
