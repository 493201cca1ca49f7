"""The database: declarative base, transactions by role and tenant, row-level security, migrations."""
