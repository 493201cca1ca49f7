"""What was charged too much under a price that was reverted, and is given back."""
