"""What the tables call things, in words for people. What is not listed is shown as the table has it."""

from chappe_billing.ledger.postings import TransactionKind
from chappe_control.pages.languages import N_
from chappe_kernel.api_keys import KeyKind

KEY_KINDS = {KeyKind.INFERENCE: N_("Inference"), KeyKind.MANAGEMENT: N_("Management")}
TRANSACTIONS = {
    TransactionKind.WELCOME_CREDIT: N_("Welcome credit"),
    TransactionKind.USAGE: N_("Usage"),
    TransactionKind.USAGE_CORRECTION: N_("Usage corrected"),
    TransactionKind.TOP_UP: N_("Top-up"),
    TransactionKind.REFUND: N_("Refund"),
    TransactionKind.CHARGEBACK: N_("Chargeback"),
    TransactionKind.GOODWILL_CREDIT: N_("Goodwill credit"),
    TransactionKind.VOLUME_DISCOUNT: N_("Volume discount"),
    TransactionKind.MINIMUM_FEE: N_("Minimum fee"),
    TransactionKind.COMMITMENT_FEE: N_("Commitment fee"),
    TransactionKind.WRITE_OFF: N_("Written off"),
    TransactionKind.REVERSAL: N_("Reversal"),
}
