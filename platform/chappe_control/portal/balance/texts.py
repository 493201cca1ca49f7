"""Words for payments, on the tenant's and the operator's pages."""

from chappe_billing.payments.models import Method, PaymentState, Purpose
from chappe_control.pages.languages import N_

STATES = {
    PaymentState.ASKED: (N_("Being prepared"), "secondary"),
    PaymentState.OPEN: (N_("To be paid"), "blue"),
    PaymentState.PROCESSING: (N_("On its way"), "blue"),
    PaymentState.SUCCEEDED: (N_("Paid"), "green"),
    PaymentState.FAILED: (N_("Refused"), "red"),
    PaymentState.EXPIRED: (N_("Abandoned"), "secondary"),
    PaymentState.QUARANTINED: (N_("Being checked"), "yellow"),
}
PURPOSES = {
    Purpose.TOP_UP: N_("Top-up"),
    Purpose.AUTO_TOP_UP: N_("Automatic top-up"),
    Purpose.INVOICE: N_("Invoice"),
}
METHODS = {
    Method.CARD: N_("Card"),
    Method.SEPA_DEBIT: N_("SEPA direct debit"),
    Method.BANK_TRANSFER: N_("Bank transfer"),
}
REFUND_STATES = {
    "asked": N_("On its way"),
    "processing": N_("On its way"),
    "succeeded": N_("Paid back"),
    "failed": N_("Could not be paid out"),
}
DISPUTE_STATES = {"open": N_("Open"), "lost": N_("Lost"), "won": N_("Won")}
PROBLEMS = {
    "amount_out_of_bounds": N_("This amount is too small or too large for one payment."),
    "invalid_amount": N_("Write an amount with at most two decimals, such as 25.50."),
    "invalid_number": N_("Write a number from 1 to 100."),
    "amount_too_large": N_("There is not so much left of this payment, or not so much free in your funds."),
    "tax_undecided": N_(
        "How you are taxed is not decided yet. Complete your legal details, or wait until your VAT number is checked."
    ),
    "payments_not_offered": N_("Your provider takes no payments here."),
    "too_many_open_payments": N_("Too many payments are open. Pay or abandon one first."),
    "no_payment_method": N_("Save a card or an account first."),
    "disputed": N_("The bank that paid disputes this payment: it decides where the money goes."),
    "not_paid": N_("This payment brought no money."),
    "invoiced": N_("What was invoiced goes back by a credit note."),
}
REFUSED = N_("This cannot be done. Nothing has changed.")
