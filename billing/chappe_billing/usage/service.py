"""Ingestion: a batch of usage events becomes money moved, in one transaction and exactly once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budget_queries
from chappe_billing.budgets import service as budgets
from chappe_billing.budgets.queries import LockedBudget
from chappe_billing.gateways import check_gateway_name
from chappe_billing.grants import queries as grant_queries
from chappe_billing.grants.models import BudgetGrant
from chappe_billing.ledger.service import new_transaction_id, post
from chappe_billing.prices import queries as price_queries
from chappe_billing.prices.queries import ListedPrice
from chappe_billing.spending.service import announce_thresholds
from chappe_billing.usage import queries
from chappe_billing.usage.allocation import allocate
from chappe_billing.usage.checking import Facts, GrantOwner, Refusal, check_event
from chappe_billing.usage.posting import by_tenant, event_row, hour_rows, part_of_tenant, posted_by_grant
from chappe_kernel.wire.control import UsageBatch, UsageEvent, UsageReceipt
from chappe_store.outbox import enqueue
from chappe_store.queries import read_epoch


@dataclass(frozen=True)
class _Known:
    """What the database says about a batch, under the locks of its tenants' budgets."""

    budgets: dict[UUID, LockedBudget]
    grants: dict[UUID, BudgetGrant]
    facts: Facts


async def ingest(session: AsyncSession, *, region: str, batch: UsageBatch) -> UsageReceipt:
    """Post what is new and sound, quarantine what is new and not, ignore what is known. As a region.

    Idempotent for every event, in whatever batches it comes: the tenants' budgets are locked first, so that batches
    which share an event take turns. Raises nothing for an event's own faults (`Invalid` for the gateway's name alone).
    """
    check_gateway_name(batch.gateway)
    events, contradictions = _distinct(batch.events)
    known = await _gather(session, region, events)
    posted_before = await queries.find_posted(session, [event.request_id for event in events])
    refused = []
    fresh = []
    repeated = len(batch.events) - len(events) - len(contradictions)
    told = {event.request_id: event for event in events}
    for event in (*events, *contradictions):
        before = posted_before.get(event.request_id)
        if before is not None and _same(event, before, region):
            repeated += 1
            continue
        contradicts = before is not None or told[event.request_id] is not event
        refusal = Refusal.DIFFERS_FROM_POSTED if contradicts else check_event(event, known.facts)
        if refusal is None:
            fresh.append(event)
        else:
            refused.append((event, refusal))
    await _post(session, region, batch.gateway, fresh, known)
    quarantined = await _quarantine(session, region, batch.gateway, refused, known.facts.prices)
    return UsageReceipt(
        epoch=str(await read_epoch(session)),
        posted=len(fresh),
        repeated=repeated + len(refused) - quarantined,
        quarantined=quarantined,
    )


def _distinct(events: Iterable[UsageEvent]) -> tuple[list[UsageEvent], list[UsageEvent]]:
    """Each request once, ordered by its id; and further events under the same id that say something else."""
    first: dict[UUID, UsageEvent] = {}
    contradictions = [event for event in events if first.setdefault(event.request_id, event) != event]
    return sorted(first.values(), key=lambda event: event.request_id), contradictions


async def _gather(session: AsyncSession, region: str, events: Sequence[UsageEvent]) -> _Known:
    tenant_ids = {event.tenant_id for event in events}
    locked = await budgets.lock_budgets(session, tenant_ids)
    grants = await grant_queries.find_grants(session, {event.grant_id for event in events})
    facts = Facts(
        region=region,
        currencies={tenant_id: budget.currency for tenant_id, budget in locked.items()},
        keys=await queries.find_keys(session, tenant_ids, {event.key_id for event in events}),
        prices=await price_queries.find_prices(session, {event.price_version for event in events}),
        grants={grant.id: GrantOwner(grant.tenant_id, grant.region) for grant in grants.values()},
    )
    return _Known(locked, grants, facts)


async def _post(session: AsyncSession, region: str, gateway: str, events: Sequence[UsageEvent], known: _Known) -> None:
    prices = known.facts.prices
    rest = {
        grant.id: grant.amount_nano - grant.returned_nano - grant.posted_nano
        for grant in known.grants.values()
        if grant.released_at is None
    }
    free = {tenant_id: budget.free_nano for tenant_id, budget in known.budgets.items()}
    paid = list(zip(events, allocate(events, rest, free), strict=True))
    parts = [part_of_tenant(new_transaction_id(), region, known.budgets[key], of) for key, of in by_tenant(paid)]
    transactions = {part.movement.tenant_id: part.posting.id for part in parts if part.posting is not None}
    await grant_queries.add_posted(session, posted_by_grant(paid))
    await budget_queries.move(session, [part.movement for part in parts])
    await post(session, [part.posting for part in parts if part.posting is not None])
    await queries.insert_events(session, [event_row(one, region, gateway, prices, transactions) for one in paid])
    await queries.add_to_hours(session, hour_rows(paid, region, prices))
    charged = {part.movement.tenant_id for part in parts if part.movement.posted_nano}
    await announce_thresholds(session, {tenant_id: known.facts.currencies[tenant_id] for tenant_id in charged})
    await enqueue(session, "usage.posted", [part.announcement for part in parts if part.posting is not None])


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


def _same(event: UsageEvent, posted: Any, region: str) -> bool:
    """Whether a posted row is this very event. Only what money depends on: a spool keeps the rest anyhow."""
    counts = event.counts
    return (
        (event.tenant_id, event.key_id, event.grant_id, event.price_version, event.outcome, event.amount_nano, region)
        == (
            posted.tenant_id,
            posted.key_id,
            posted.grant_id,
            posted.price_version_id,
            posted.outcome,
            posted.amount_nano,
            posted.region,
        )
    ) and (counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens) == (
        posted.prompt_tokens,
        posted.cached_tokens,
        posted.completion_tokens,
    )
