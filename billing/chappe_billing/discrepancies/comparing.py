"""Whether the witnesses of a request disagree: pure rules.

The outcome explains most differences: a client that left did not get all that was generated, and after an error of ours
less was delivered too. What no outcome explains is a contradiction: text that the engine says it never made, or
two counts of one prompt.
"""

from uuid import UUID

import msgspec

from chappe_billing.usage.models import UsageEvent as PostedEvent
from chappe_kernel.rating import NO_COUNTS, Counts, Price, charge
from chappe_kernel.wire.control import UsageEvent


def contradicting_counts(event: UsageEvent) -> Counts | None:
    """The smaller of both witnesses when they contradict each other, else None."""
    delivered, generated = event.delivered, event.generated
    if delivered is None or generated is None or delivered == generated or NO_COUNTS in (delivered, generated):
        return None
    same_prompt = (delivered.prompt_tokens, delivered.cached_tokens) == (
        generated.prompt_tokens,
        generated.cached_tokens,
    )
    if same_prompt and delivered.completion_tokens <= generated.completion_tokens:
        return None
    prompt_tokens = min(delivered.prompt_tokens, generated.prompt_tokens, event.counts.prompt_tokens)
    return Counts(
        prompt_tokens,
        min(max(delivered.cached_tokens, generated.cached_tokens), prompt_tokens),
        min(delivered.completion_tokens, generated.completion_tokens, event.counts.completion_tokens),
    )


def by_the_smaller(event: UsageEvent, price: Price) -> UsageEvent | None:
    """What a request with contradicting witnesses costs by the smaller counts; None when they agree."""
    counts = contradicting_counts(event)
    if counts is None:
        return None
    return msgspec.structs.replace(event, counts=counts, amount_nano=charge(price, event.outcome, counts))


def identity_of_event(event: UsageEvent, region: str) -> tuple[UUID | str, ...]:
    """What two stories of one request must agree on, however it ended."""
    return event.tenant_id, event.project_id, event.key_id, event.grant_id, event.price_version, region


def identity_of_row(row: PostedEvent) -> tuple[UUID | str, ...]:
    return row.tenant_id, row.project_id, row.key_id, row.grant_id, row.price_version_id, row.region


def in_the_tenants_favour(paid_nano: int, corrected_nano: int, other_nano: int) -> int:
    """What may be given back: never more than was paid and not given back yet, never less than nothing."""
    return max(0, paid_nano - corrected_nano - other_nano)
