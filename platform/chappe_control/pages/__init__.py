"""What all pages share, of the portal and of the console."""
