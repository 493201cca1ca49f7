"""A month's invoices of a legal entity: every payer decided about once, in a transaction of its own."""
