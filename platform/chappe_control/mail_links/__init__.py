"""Links that prove that somebody reads an address: sent by mail, opened once."""
