"""Ingestion: a batch of usage events becomes money moved, in one transaction and exactly once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budget_queries
from chappe_billing.budgets import service as budgets
from chappe_billing.budgets.queries import LockedBudget
from chappe_billing.discrepancies.comparing import (
    by_the_smaller,
    contradicting_counts,
    identity_of_event,
    identity_of_row,
)
from chappe_billing.discrepancies.service import open_discrepancies
from chappe_billing.gateways import check_gateway_name
from chappe_billing.grants import queries as grant_queries
from chappe_billing.ledger.service import new_transaction_id, post
from chappe_billing.prices import queries as price_queries
from chappe_billing.prices.queries import ListedPrice
from chappe_billing.quarantine.queries import find_written_off
from chappe_billing.spending.service import announce_thresholds
from chappe_billing.usage import queries
from chappe_billing.usage.ahead import Ahead
from chappe_billing.usage.allocation import allocate
from chappe_billing.usage.checking import Checker, Facts, GrantOwner, Refusal
from chappe_billing.usage.models import UsageEvent as PostedEvent
from chappe_billing.usage.posting import (
    TenantPart,
    evenly_cut,
    part_of_tenant,
    posted_by_grant,
    sold_to_tenants,
    standings_and_lines,
    tenant_after_tenant,
)
from chappe_billing.usage.queries import Named
from chappe_billing.usage.repeating import Charged, find_repeats, window_of
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageBatch, UsageEvent, UsageReceipt
from chappe_store.queries import read_epoch

# So many events or more are looked at while as many are being inserted. Twice as many still fit into a socket's buffer,
# so that the database has them at once; of fewer, the statement itself would cost more than it saves.
_AT_ONCE = 300


@dataclass(frozen=True)
class _Known:
    """What the database says about a batch, under the locks of its tenants' budgets."""

    budgets: dict[UUID, LockedBudget]
    named: Named
    facts: Facts


@dataclass
class _Told:
    """What a batch's events turned out to be. Fresh ones are posted as they are found; what is in no list is known
    already."""

    posted: int = 0
    contradicting: list[UsageEvent] = field(default_factory=list)
    """What fresh events would cost by the smaller of their two witnesses, where these contradict each other."""
    later: list[UsageEvent] = field(default_factory=list)
    """Other stories of posted requests."""
    refused: list[tuple[UsageEvent, Refusal]] = field(default_factory=list)


@dataclass
class _Moved:
    """What a batch's events move in money, once for all of them."""

    parts: list[TenantPart] = field(default_factory=list)
    by_grant: dict[UUID, int] = field(default_factory=dict)


async def ingest(session: AsyncSession, *, region: str, batch: UsageBatch) -> UsageReceipt:
    """Post what is new and sound, quarantine what is new and not, ignore what is known. As a region.

    Another story of a posted request, sound in itself, changes nothing that is posted: it opens a discrepancy.

    Idempotent for every event, in whatever batches it comes: the tenants' budgets are locked first, so that batches
    which share an event take turns. Raises nothing for an event's own faults (`Invalid` for the gateway's name alone).
    """
    check_gateway_name(batch.gateway)
    events, contradictions = _distinct(batch.events)
    known = await _gather(session, region, events)
    posted_before = await queries.find_posted(session, known.named.posted)
    teller = _Teller(region, known.facts, posted_before, contradictions)
    moved = await _insert(session, batch.gateway, events, known, teller)
    told = teller.tell_the_rest(events)
    await _post(session, moved, known)
    await open_discrepancies(session, region, batch.gateway, "witnesses_differ", told.contradicting)
    disputed = await open_discrepancies(session, region, batch.gateway, "later_record", told.later)
    quarantined = await _quarantine(session, region, batch.gateway, told.refused, known.facts.prices)
    return UsageReceipt(
        epoch=str(await read_epoch(session)),
        posted=told.posted,
        repeated=len(batch.events) - told.posted - disputed - quarantined,
        quarantined=quarantined,
        disputed=disputed,
    )


class _Teller:
    """Tells events apart: which are new and sound, and what the others are."""

    def __init__(
        self,
        region: str,
        facts: Facts,
        posted_before: Mapping[UUID, PostedEvent],
        contradictions: Sequence[UsageEvent],
    ) -> None:
        self._region = region
        self._facts = facts
        self._checker = Checker(facts)
        self._posted_before = posted_before
        self._contradictions = contradictions
        self._accepted = {request_id: identity_of_row(row) for request_id, row in posted_before.items()}
        self._told = _Told()

    def fresh_of(self, events: Sequence[UsageEvent]) -> list[UsageEvent]:
        """Those to post, of events of which each is its request's first story in the batch."""
        fresh = []
        for event in events:
            if self._posted_before and event.request_id in self._posted_before:
                continue
            refusal = self._checker.check(event)
            if refusal is not None:
                self._told.refused.append((event, refusal))
                continue
            fresh.append(event)
            self._compare_witnesses(event)
            if self._contradictions:
                self._accepted[event.request_id] = identity_of_event(event, self._region)
        self._told.posted += len(fresh)
        return fresh

    def _compare_witnesses(self, event: UsageEvent) -> None:
        if contradicting_counts(event) is not None:
            smaller = by_the_smaller(event, self._facts.prices[event.price_version].price)
            if smaller is not None:
                self._told.contradicting.append(smaller)

    def tell_the_rest(self, events: Sequence[UsageEvent]) -> _Told:
        """Of requests that have several stories. Nearly always there is one, and it is new."""
        before = self._posted_before
        further = [event for event in events if event.request_id in before] if before else []
        for event in (*further, *self._contradictions):
            posted = before.get(event.request_id)
            if posted is not None and _same(event, posted, self._region):
                continue
            same_request = self._accepted.get(event.request_id) == identity_of_event(event, self._region)
            if same_request and self._checker.check(event) is None:
                self._told.later.append(event)
            else:
                self._told.refused.append((event, Refusal.DIFFERS_FROM_POSTED))
        return self._told


def _distinct(events: Iterable[UsageEvent]) -> tuple[list[UsageEvent], list[UsageEvent]]:
    """Each request once, ordered by its id; and further events under the same id that say something else."""
    first: dict[int, UsageEvent] = {}
    contradictions = []
    for event in events:
        before = first.setdefault(event.request_id.int, event)
        if before is not event and before != event:
            contradictions.append(event)
    return [first[request_id] for request_id in sorted(first)], contradictions


def _ids(ids: Iterable[UUID]) -> list[UUID]:
    """Each once. By their numbers: ids themselves hash and compare in Python, ten times as slowly."""
    return list({one.int: one for one in ids}.values())


async def _gather(session: AsyncSession, region: str, events: Sequence[UsageEvent]) -> _Known:
    tenant_ids = _ids(event.tenant_id for event in events)
    locked = await budgets.lock_budgets(session, tenant_ids)
    named = await queries.read_named(
        session,
        tenant_ids=tenant_ids,
        key_ids=_ids(event.key_id for event in events),
        grant_ids=_ids(event.grant_id for event in events),
        request_ids=[event.request_id for event in events],
    )
    facts = Facts(
        region=region,
        currencies={tenant_id: budget.currency for tenant_id, budget in locked.items()},
        keys=named.keys,
        prices=await price_queries.find_prices(session, _ids(event.price_version for event in events)),
        contracts=await price_queries.contract_starts(session, tenant_ids),
        now=named.now,
        grants={grant.id: GrantOwner(grant.tenant_id, grant.region) for grant in named.grants},
        written_off=await find_written_off(session, events[0].request_id, events[-1].request_id) if events else set(),
        first_request_id=named.first_request_id,
    )
    return _Known(locked, named, facts)


async def _insert(
    session: AsyncSession, gateway: str, events: Sequence[UsageEvent], known: _Known, teller: _Teller
) -> _Moved:
    """Insert what is new and sound. While the database inserts some events, the next are looked at: a batch takes as
    long as the slower of the two, tenants' budgets are locked no longer, and others get a word in."""
    region, prices = known.facts.region, known.facts.prices
    rest = {grant.id: grant.rest_nano for grant in known.named.grants}
    free = {tenant_id: budget.free_nano for tenant_id, budget in known.budgets.items()}
    charged = await _find_charged(session, events)
    moved = _Moved()
    async with Ahead() as ahead:
        for together in tenant_after_tenant(events, _AT_ONCE):
            fresh = teller.fresh_of(together)
            repeats = find_repeats(fresh, region, charged)
            if repeats:
                fresh = [_freed(event) if event.request_id in repeats else event for event in fresh]
            paid = list(zip(fresh, allocate(fresh, rest, free), strict=True))
            parts = [
                part_of_tenant(new_transaction_id(), region, known.budgets[tenant_id], sold, prices)
                for tenant_id, sold in sold_to_tenants(paid)
            ]
            transactions = {part.movement.tenant_id: part.posting.id for part in parts if part.posting is not None}
            for some in evenly_cut(paid, _AT_ONCE):
                rows = standings_and_lines(some, prices, transactions, repeats)
                await ahead.start(queries.insert_events(session, region, gateway, *rows))
            moved.parts += parts
            moved.by_grant |= posted_by_grant(paid)
    return moved


async def _post(session: AsyncSession, moved: _Moved, known: _Known) -> None:
    await grant_queries.add_posted(session, moved.by_grant)
    await budget_queries.move(session, [part.movement for part in moved.parts])
    await post(session, [part.posting for part in moved.parts if part.posting is not None])
    charged = {part.movement.tenant_id for part in moved.parts if part.movement.posted_nano}
    await announce_thresholds(session, {tenant_id: known.facts.currencies[tenant_id] for tenant_id in charged})


async def _find_charged(session: AsyncSession, events: Sequence[UsageEvent]) -> list[Charged]:
    """What events with an Idempotency-Key may repeat."""
    keyed = [event for event in events if event.idempotency_digest is not None]
    if not keyed:
        return []
    digests = {event.idempotency_digest for event in keyed if event.idempotency_digest is not None}
    tenant_ids = {event.tenant_id for event in keyed}
    return await queries.find_charged(session, tenant_ids, digests, *window_of(keyed))


def _freed(event: UsageEvent) -> UsageEvent:
    return msgspec.structs.replace(event, amount_nano=0)


async def _quarantine(
    session: AsyncSession,
    region: str,
    gateway: str,
    refused: Sequence[tuple[UsageEvent, Refusal]],
    prices: Mapping[UUID, ListedPrice],
) -> int:
    """Keep refused events; how many of them were not kept already."""
    listings = {price.listing for price in prices.values()}
    rows = {}
    for event, refusal in refused:
        # A listing's name that no price of ours has may be anything, even what a tenant wrote: it is not kept.
        kept = event if event.listing in listings else msgspec.structs.replace(event, listing="")
        digest = sha256(msgspec.json.encode(event)).digest()
        rows[event.request_id, digest] = {
            "request_id": event.request_id,
            "digest": digest,
            "code": refusal,
            "region": region,
            "gateway": gateway,
            "tenant_id": event.tenant_id,
            "event": msgspec.to_builtins(kept),
        }
    return len(await queries.insert_quarantined(session, list(rows.values())))


def _same(event: UsageEvent, posted: PostedEvent, region: str) -> bool:
    """Whether a posted row is this very event. Only what money depends on: a spool keeps the rest anyhow."""
    counts = event.counts
    named = (event.tenant_id, event.key_id, event.grant_id, event.price_version, event.outcome, region)
    return (
        named
        == (
            posted.tenant_id,
            posted.key_id,
            posted.grant_id,
            posted.price_version_id,
            posted.outcome,
            posted.region,
        )
        # The gateway rated it; that it repeats another and is free was found here.
        and (event.amount_nano == posted.amount_nano or posted.repeats is not None)
        and counts == Counts(*(getattr(posted, name) for name in Counts.__struct_fields__))
    )
