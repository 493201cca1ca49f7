"""Browser tokens: what a signed-in member's browser calls the gateways with, for some minutes."""
