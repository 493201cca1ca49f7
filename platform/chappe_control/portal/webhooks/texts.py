"""The words for kinds of events, for how a delivery went, and for what was wrong."""

from chappe_control.pages.languages import N_
from chappe_control.webhooks.kinds import EventKind

KINDS = {
    EventKind.BUDGET_THRESHOLD: N_("A monthly budget reached a threshold"),
    EventKind.FORECAST: N_("The month is going to cost more than planned"),
    EventKind.LOW_BALANCE: N_("The balance is low"),
    EventKind.PAYMENT_FAILED: N_("A payment failed"),
    EventKind.PAYMENT_SUCCEEDED: N_("A payment came in"),
    EventKind.INVOICE_REMINDER: N_("An invoice is due soon"),
    EventKind.INVOICE_OVERDUE: N_("An invoice is overdue"),
    EventKind.SUSPENDED: N_("The organisation is suspended"),
    EventKind.RESTORED: N_("The organisation is active again"),
    EventKind.WEBHOOK_DISABLED: N_("A webhook was disabled"),
    EventKind.TEST: N_("A test"),
}
STATES = {
    "waiting": (N_("Waiting"), "yellow"),
    "delivered": (N_("Delivered"), "green"),
    "failed": (N_("Failed"), "red"),
}
ERRORS = {
    "address_not_public": N_("The name leads to an address that is not public."),
    "timed_out": N_("No answer within 15 seconds."),
    "tls_failed": N_("No valid certificate for this name."),
    "not_reached": N_("Nobody answers there."),
    "no_answer": N_("The answer was no HTTP."),
    "invalid_url": N_("Its address is not allowed any more."),
    "secret_unreadable": N_("Its secret cannot be read any more: change it."),
}
REASONS = {
    "failing": N_("It was disabled because nothing was taken there for three days."),
    "gone": N_("It was disabled because it answered 410 Gone."),
    "by_hand": N_("It was disabled by a member of your organisation."),
}
PROBLEMS = {
    "url": N_("An address like https://hooks.company.example/chappe: a name, no number, port 443 or 8443."),
    "kinds": N_("Choose at least one."),
    "description": N_("At most 200 characters of one line."),
    "too_many_webhooks": N_("An organisation has at most 20 webhooks."),
    "webhook_disabled": N_("It is disabled. Enable it first."),
    "still_waiting": N_("It is still being tried."),
}
