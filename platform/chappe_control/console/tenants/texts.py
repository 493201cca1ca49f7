"""What the tables call things, in words for people. What is not listed is shown as the table has it."""

from chappe_billing.ledger.postings import TransactionKind
from chappe_control.pages.languages import N_
from chappe_kernel.api_keys import KeyKind

KEY_KINDS = {KeyKind.INFERENCE: N_("Inference"), KeyKind.MANAGEMENT: N_("Management")}
TRANSACTIONS = {TransactionKind.WELCOME_CREDIT: N_("Welcome credit"), TransactionKind.USAGE: N_("Usage")}
