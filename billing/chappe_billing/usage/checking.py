"""Whether a usage event may be posted: pure rules over what the database knows.

An event that fails is quarantined under the code that says why; it never blocks its batch.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from chappe_billing.prices.queries import ListedPrice
from chappe_kernel.rating import Counts, charge
from chappe_kernel.wire.control import UsageEvent

# An engine's context is some millions of tokens at most. Together with the bound on a price's components this keeps
# every amount, and every sum of a year's amounts, within 64 bits.
MAX_TOKENS = 10**9
MAX_AMOUNT_NANO = 10**15
_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_MAX_TTFT_MS = 2**31


class Refusal(StrEnum):
    """Why an event is in quarantine."""

    UNKNOWN_TENANT = "unknown_tenant"
    UNKNOWN_KEY = "unknown_key"
    UNKNOWN_PRICE_VERSION = "unknown_price_version"
    PRICE_MISMATCH = "price_mismatch"
    CURRENCY_MISMATCH = "currency_mismatch"
    GRANT_MISMATCH = "grant_mismatch"
    IMPOSSIBLE_COUNTS = "impossible_counts"
    IMPOSSIBLE_TIMES = "impossible_times"
    AMOUNT_MISMATCH = "amount_mismatch"
    OVER_HOLD = "over_hold"
    DIFFERS_FROM_POSTED = "differs_from_posted"


class KeyOwner(Struct, frozen=True):
    """A key, and whose it is."""

    key_id: UUID
    project_id: UUID
    tenant_id: UUID


class GrantOwner(Struct, frozen=True):
    tenant_id: UUID
    region: str


class Facts(Struct, frozen=True):
    """What the database knows about the things that a batch names."""

    region: str
    """The calling region."""
    currencies: Mapping[UUID, str]
    """By tenant."""
    keys: AbstractSet[KeyOwner]
    prices: Mapping[UUID, ListedPrice]
    grants: Mapping[UUID, GrantOwner]


def check_event(event: UsageEvent, facts: Facts) -> Refusal | None:
    """The first reason not to post `event`, or None.

    A grant that nobody knows is no reason: a restored backup may have lost it. The event then pays from free funds,
    as one does whose grant has expired.
    """
    return _check_owner(event, facts) or _check_price(event, facts) or _check_amount(event, facts)


def _check_owner(event: UsageEvent, facts: Facts) -> Refusal | None:
    if event.tenant_id not in facts.currencies:
        return Refusal.UNKNOWN_TENANT
    if KeyOwner(event.key_id, event.project_id, event.tenant_id) not in facts.keys:
        return Refusal.UNKNOWN_KEY
    grant = facts.grants.get(event.grant_id)
    if grant is not None and grant != GrantOwner(event.tenant_id, facts.region):
        return Refusal.GRANT_MISMATCH
    return None


def _check_price(event: UsageEvent, facts: Facts) -> Refusal | None:
    listed = facts.prices.get(event.price_version)
    if listed is None:
        return Refusal.UNKNOWN_PRICE_VERSION
    if (listed.listing, listed.region) != (event.listing, facts.region):
        return Refusal.PRICE_MISMATCH
    if listed.currency != facts.currencies[event.tenant_id]:
        return Refusal.CURRENCY_MISMATCH
    return None


def _check_amount(event: UsageEvent, facts: Facts) -> Refusal | None:
    if not _counts_possible(event.counts) or not 0 <= (event.ttft_ms or 0) < _MAX_TTFT_MS:
        return Refusal.IMPOSSIBLE_COUNTS
    if not (_time_possible(event.started_at) and _time_possible(event.finished_at)):
        return Refusal.IMPOSSIBLE_TIMES
    rated_nano = charge(facts.prices[event.price_version].price, event.outcome, event.counts)
    if event.amount_nano != rated_nano or rated_nano > MAX_AMOUNT_NANO:
        return Refusal.AMOUNT_MISMATCH
    if not event.amount_nano <= event.hold_nano <= MAX_AMOUNT_NANO:
        return Refusal.OVER_HOLD
    return None


def _counts_possible(counts: Counts) -> bool:
    return max(counts.prompt_tokens, counts.completion_tokens) <= MAX_TOKENS


def _time_possible(at: datetime) -> bool:
    # The order of the two is no reason to refuse: a gateway's wall clock may have been set back in between.
    return at.tzinfo is not None and _EARLIEST < at < _LATEST
