"""What the operator sees to of tax: VAT numbers, refused documents, rates, and rulings about tenants."""
