"""Who may do what, as far as this gateway knows."""
