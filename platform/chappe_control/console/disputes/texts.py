"""What the tables call things, in words for people."""

from chappe_billing.usage.checking import Refusal
from chappe_control.pages.languages import N_
from chappe_kernel.rating import Outcome

KINDS = {
    "witnesses_differ": N_("The witnesses differ"),
    "later_record": N_("A record came later"),
}
OUTCOMES = {
    Outcome.COMPLETED: N_("Completed"),
    Outcome.DISCONNECTED: N_("Disconnected"),
    Outcome.FAILED: N_("Failed"),
}
CODES = {
    Refusal.UNKNOWN_TENANT: N_("Unknown tenant"),
    Refusal.UNKNOWN_KEY: N_("Unknown key"),
    Refusal.UNKNOWN_PRICE_VERSION: N_("Unknown price version"),
    Refusal.PRICE_MISMATCH: N_("Another offer's price"),
    Refusal.CURRENCY_MISMATCH: N_("Another currency"),
    Refusal.GRANT_MISMATCH: N_("Another's grant"),
    Refusal.IMPOSSIBLE_COUNTS: N_("Impossible counts"),
    Refusal.IMPOSSIBLE_TIMES: N_("Impossible times"),
    Refusal.AMOUNT_MISMATCH: N_("Not what the price book says"),
    Refusal.OVER_HOLD: N_("Over its hold"),
    Refusal.IMPOSSIBLE_DIGEST: N_("Impossible digest"),
    Refusal.DIFFERS_FROM_POSTED: N_("Contradicts what is posted"),
    Refusal.WRITTEN_OFF: N_("Given up before"),
}
