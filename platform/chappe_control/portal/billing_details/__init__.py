"""How the visitor's organisation is taxed, and what stands on its invoices."""
