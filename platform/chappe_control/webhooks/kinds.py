"""What a tenant can be told of. The names are part of the API: none ever changes its meaning."""

from enum import StrEnum


class EventKind(StrEnum):
    """In the order in which people read them."""

    BUDGET_THRESHOLD = "budget.threshold_reached"
    FORECAST = "forecast.exceeded"
    LOW_BALANCE = "balance.low"
    PAYMENT_FAILED = "payment.failed"
    PAYMENT_SUCCEEDED = "payment.succeeded"
    INVOICE_REMINDER = "invoice.reminder"
    INVOICE_OVERDUE = "invoice.overdue"
    SUSPENDED = "organisation.suspended"
    RESTORED = "organisation.restored"
    WEBHOOK_DISABLED = "webhook.disabled"
    TEST = "test"


CHOOSABLE = tuple(kind for kind in EventKind if kind is not EventKind.TEST)
"""What endpoints ask for. A test goes to the one that is tested."""
