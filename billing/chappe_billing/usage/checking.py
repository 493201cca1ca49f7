"""Whether a usage event may be posted: pure rules over what the database knows.

An event that fails is quarantined under the code that says why; it never blocks its batch.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from chappe_billing.prices.queries import ListedPrice, PriceList
from chappe_billing.usage.lines import MAX_DIGEST_BYTES
from chappe_kernel.ids import first_id_after
from chappe_kernel.rating import Counts, Price, charge
from chappe_kernel.wire.control import UsageEvent

# An engine's context is some millions of tokens at most. Together with the bound on a price's components this keeps
# every amount, and every sum of a year's amounts, within 64 bits.
MAX_TOKENS = 10**9
MAX_AMOUNT_NANO = 10**15
_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_MAX_TTFT_MS = 2**31
# Between what a gateway goes by and what the database knows: a clock that is ten minutes wrong is a known fault, and
# a price is heard of within the snapshot's maximum age.
_CLOCKS_DIFFER = timedelta(hours=1)


class Refusal(StrEnum):
    """Why an event is in quarantine."""

    MONTH_DROPPED = "month_dropped"
    UNKNOWN_TENANT = "unknown_tenant"
    UNKNOWN_KEY = "unknown_key"
    UNKNOWN_PRICE_VERSION = "unknown_price_version"
    PRICE_MISMATCH = "price_mismatch"
    PRICE_NOT_IN_FORCE = "price_not_in_force"
    CURRENCY_MISMATCH = "currency_mismatch"
    GRANT_MISMATCH = "grant_mismatch"
    IMPOSSIBLE_COUNTS = "impossible_counts"
    IMPOSSIBLE_TIMES = "impossible_times"
    IMPOSSIBLE_DIGEST = "impossible_digest"
    AMOUNT_MISMATCH = "amount_mismatch"
    OVER_HOLD = "over_hold"
    DIFFERS_FROM_POSTED = "differs_from_posted"
    WRITTEN_OFF = "written_off"


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
    contracts: Mapping[PriceList, datetime]
    """Since when tenants have prices of their own."""
    now: datetime
    written_off: AbstractSet[UUID] = frozenset()
    """Requests that the operator gave up: what comes of them again stays out."""
    first_request_id: UUID = UUID(int=0)
    """Events of before it were dropped with their month: whatever comes of then may have been posted already."""


class _Rated(Struct, frozen=True):
    """The price of an event; requests with an id of `over_from` or later began when it was over."""

    price: Price
    over_from: int | None


class Checker:
    """Says of each event of a batch the first reason not to post it, or None. What many of them name together is looked
    up once.

    A grant that nobody knows is no reason: a restored backup may have lost it. The event then pays from free funds,
    as one does whose grant has expired.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._first = facts.first_request_id.int
        self._found: dict[tuple[int | str, ...], Refusal | _Rated] = {}

    def check(self, event: UsageEvent) -> Refusal | None:
        if self._facts.written_off and event.request_id in self._facts.written_off:
            return Refusal.WRITTEN_OFF
        if event.request_id.int < self._first:
            return Refusal.MONTH_DROPPED
        # Numbers, and not the ids themselves: those hash and compare in Python, ten times as slowly.
        names = (
            event.key_id.int,
            event.grant_id.int,
            event.price_version.int,
            event.project_id.int,
            event.tenant_id.int,
            event.listing,
        )
        found = self._found.get(names)
        if found is None:
            found = self._found[names] = self._look_up(event)
        if isinstance(found, Refusal):
            return found
        if found.over_from is not None and event.request_id.int >= found.over_from:
            return Refusal.PRICE_NOT_IN_FORCE
        return _check_work(event, found.price)

    def _look_up(self, event: UsageEvent) -> Refusal | _Rated:
        refusal = _check_owner(event, self._facts) or _check_price(event, self._facts)
        if refusal is not None:
            return refusal
        listed = self._facts.prices[event.price_version]
        return _Rated(listed.price, _over_from(event, listed, self._facts))


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
    if listed.tenant_id not in {None, event.tenant_id}:
        return Refusal.PRICE_MISMATCH
    if listed.starts_at > facts.now + _CLOCKS_DIFFER:
        return Refusal.PRICE_NOT_IN_FORCE
    if listed.currency != facts.currencies[event.tenant_id]:
        return Refusal.CURRENCY_MISMATCH
    return None


def _over_from(event: UsageEvent, listed: ListedPrice, facts: Facts) -> int | None:
    """For this tenant, as far as clocks tell: a gateway's may be wrong, and it may have heard of a price late."""
    ends = [listed.ends_at]
    if listed.tenant_id is None:
        ends.append(facts.contracts.get(PriceList(listed.listing_id, listed.region, event.tenant_id)))
    known = [end for end in ends if end is not None]
    return first_id_after(min(known) + _CLOCKS_DIFFER).int if known else None


def _check_work(event: UsageEvent, price: Price) -> Refusal | None:
    if not _counts_possible(event):
        return Refusal.IMPOSSIBLE_COUNTS
    if not (_time_possible(event.started_at) and _time_possible(event.finished_at)):
        return Refusal.IMPOSSIBLE_TIMES
    if event.idempotency_digest is not None and len(event.idempotency_digest) > MAX_DIGEST_BYTES:
        return Refusal.IMPOSSIBLE_DIGEST
    rated_nano = charge(price, event.outcome, event.counts)
    if event.amount_nano != rated_nano or rated_nano > MAX_AMOUNT_NANO:
        return Refusal.AMOUNT_MISMATCH
    if not event.amount_nano <= event.hold_nano <= MAX_AMOUNT_NANO:
        return Refusal.OVER_HOLD
    return None


def _counts_possible(event: UsageEvent) -> bool:
    for counts in (event.counts, event.delivered, event.generated):
        if counts is not None and _most(counts) > MAX_TOKENS:
            return False
    return 0 <= (event.ttft_ms or 0) < _MAX_TTFT_MS


def _most(counts: Counts) -> int:
    return max(counts.prompt_tokens, counts.completion_tokens, counts.seconds, counts.images)


def _time_possible(at: datetime) -> bool:
    # The order of the two is no reason to refuse: a gateway's wall clock may have been set back in between.
    return at.tzinfo is not None and _EARLIEST < at < _LATEST
