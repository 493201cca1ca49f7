"""The console's pages of invoices and of the runs that issue them."""
