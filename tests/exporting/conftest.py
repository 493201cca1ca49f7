"""A market with usage to export."""

from tests.billing.conftest import customer, make_customer, market

__all__ = ["customer", "make_customer", "market"]
