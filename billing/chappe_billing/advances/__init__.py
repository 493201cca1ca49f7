"""Documents of taxed payments on account: an advance invoice for each, and a credit note for what takes it back."""
