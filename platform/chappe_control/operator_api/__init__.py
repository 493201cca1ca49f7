"""What the operator's own people and programs do: `/api/v1/operator`, across tenants."""
