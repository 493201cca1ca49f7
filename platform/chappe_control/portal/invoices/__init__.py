"""The portal's pages of invoices."""
