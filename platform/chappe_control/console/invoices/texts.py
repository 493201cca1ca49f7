"""The words of the console's pages of invoices."""

from collections.abc import Mapping
from types import MappingProxyType

from chappe_billing.invoices.models import Outcome
from chappe_billing.ledger.postings import Rail
from chappe_control.pages.languages import N_

OUTCOMES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        Outcome.WAITING: (N_("Waiting"), "blue"),
        Outcome.ISSUED: (N_("Issued"), "green"),
        Outcome.NOTHING: (N_("Nothing to invoice"), "secondary"),
        Outcome.LATER: (N_("Left for later"), "yellow"),
    }
)
RAILS: Mapping[str, str] = MappingProxyType(
    {
        Rail.BANK_TRANSFER: N_("Bank transfer"),
        Rail.DIRECT_DEBIT: N_("Direct debit"),
        Rail.CARD: N_("Card"),
        Rail.CASH: N_("Cash"),
        Rail.OTHER: N_("Other"),
    }
)
REASONS: Mapping[str, str] = MappingProxyType(
    {
        "tax_undecided": N_("How it is taxed is not decided."),
        "seller_incomplete": N_("The seller's country is not known."),
        "buyer_incomplete": N_("Its country is not known."),
        "lines_differ": N_("The lines of the invoice would not give what was posted. Look at the ledger."),
        "month_not_cut_off": N_("What its contract asks for the month is not posted yet."),
        "billed_externally": N_("Its invoices are made elsewhere."),
        "billed_to_parent": N_("It stands on its parent's invoice."),
    }
)
"""Why nothing was issued, by the code of the error."""
REFUSED = N_("This cannot be done with it. Nothing has changed.")
PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        **REASONS,
        "amount": N_("Write an amount over 0, such as 25.50."),
        "reference": N_("Write a reference of at most 190 characters in one line."),
        "reference_taken": N_("This reference stands for something else."),
        "rail": N_("Choose one of the ways to pay."),
        "reason": N_("Say why, in at most 500 characters of one line."),
        "lines": N_("Write numbers of lines that are charges and are not taken back yet, such as 1, 3."),
        "loss": N_("Write an amount over 0 that is open, such as 25.50, or nothing for all that is open."),
        "loss_reason": N_("Say why, in at most 500 characters of one line."),
        "loss_reference": N_("Write a reference of at most 190 characters in one line."),
        "confirmed": N_("Tick this to write it off."),
        "already_credited": N_("Nothing is left of this invoice."),
        "month": N_("Choose a month, written like 2026-01."),
        "month_not_over": N_("A month is invoiced once it is over, and an hour later."),
        "legal_entity_id": N_("There is no such legal entity."),
    }
)
"""By the field that is to blame, or by the error's code where that says more."""
