"""The market of the billing tests: usage is what is bought in it."""

from tests.billing.conftest import customer, make_customer, market

__all__ = ["customer", "make_customer", "market"]
