"""Other regions' gateways."""
