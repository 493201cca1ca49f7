"""What the price pages call things, in words for people."""

from chappe_billing.contract_terms.reckoning import TermKind
from chappe_control.pages.languages import N_
from chappe_store.audit_log.origin import ActorKind

COMPONENTS = {
    "input_nano_per_token": N_("1M input tokens"),
    "cached_input_nano_per_token": N_("1M cached tokens"),
    "output_nano_per_token": N_("1M output tokens"),
    "request_nano": N_("Per request"),
    "second_nano": N_("Per second"),
    "image_nano": N_("Per image"),
}
PER_TOKEN = frozenset({"input_nano_per_token", "cached_input_nano_per_token", "output_nano_per_token"})
"""Shown per million."""

MAKERS = {
    ActorKind.OPERATOR_USER: N_("Somebody who has left"),
    ActorKind.OPERATOR_TOKEN: N_("A program"),
    ActorKind.COMMAND: N_("A command, by %(user)s"),
    ActorKind.DATABASE: N_("The database"),
}
TERMS = {
    TermKind.VOLUME_DISCOUNT: N_("Volume discount"),
    TermKind.MINIMUM: N_("Minimum"),
    TermKind.COMMITMENT: N_("Commitment"),
}

REFUSED = N_("This cannot be done with it. Nothing has changed.")
PROBLEMS = {
    "reason": N_("Say why, in at most 500 characters."),
    "title": N_("Enter a name of 1 to 100 characters."),
    "tenant": N_("There is no such tenant."),
    "model": N_("Choose a model."),
    "region": N_("Choose a region."),
    "per_million": N_("Enter an amount with at most three decimals, like 0.25."),
    "per_unit": N_("Enter an amount with at most nine decimals, like 0.002."),
    "discount": N_("Enter a percentage from 0 to 100, with at most two decimals."),
    "either": N_("Enter either a discount or prices."),
    "invalid_price": N_("This is over a thousand per token or unit."),
    "no_list_price": N_("There is no list price here to take a discount from."),
    "lines": N_("A draft has at most 500 prices."),
    "month": N_("Choose a month."),
    "starts_at": N_("Enter a day and a time of the next ten years, like 2027-01-01T00:00."),
    "price_too_soon": N_("Too soon: every gateway must know of it first. Leave it empty for as soon as possible."),
    "price_scheduled": N_("A later price is published already for one of these. Withdraw that one first."),
    "empty_draft": N_("Add a price first."),
    "not_simulated": N_("Simulate it as it is before you publish it."),
    "changed": N_("Somebody changed it meanwhile. Look at it again."),
    "draft_ended": N_("It was published or discarded meanwhile."),
    "price_started": N_("Too late to withdraw it: revert it once it is in force."),
    "price_not_in_force": N_("It is not in force."),
    "nothing_before": N_("Nothing was in force before it: publish another price instead."),
}
