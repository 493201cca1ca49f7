"""What a tenant reads in sums: what it spent and used, and how soon answers began."""
