"""What the pages of quotas in portal and console have in common."""
