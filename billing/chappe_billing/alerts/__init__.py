"""What a tenant is told before money becomes a problem: forecasts, low balances, failed payments."""
