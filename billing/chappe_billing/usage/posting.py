"""Rows and ledger lines for events whose money is allocated. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct

from chappe_billing.budgets.queries import LockedBudget, Movement
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, TransactionKind
from chappe_billing.prices.queries import ListedPrice
from chappe_billing.usage.allocation import Allocation
from chappe_kernel.ids import LedgerTransactionId, TenantId
from chappe_kernel.money import format_nano
from chappe_kernel.wire.control import UsageEvent

Paid = tuple[UsageEvent, Allocation]


class TenantPart(Struct, frozen=True):
    """What a batch does to one tenant. `posting` is None when all of it was free of charge."""

    movement: Movement
    posting: Posting | None
    announcement: dict[str, Any]
    """The outbox message about `posting`."""


def by_tenant(paid: Sequence[Paid]) -> list[tuple[UUID, list[Paid]]]:
    """The events of each tenant, ordered by tenant."""
    parts: defaultdict[UUID, list[Paid]] = defaultdict(list)
    for one in paid:
        parts[one[0].tenant_id].append(one)
    return sorted(parts.items())


def posted_by_grant(paid: Sequence[Paid]) -> dict[UUID, int]:
    """What each grant's pending money paid."""
    posted: defaultdict[UUID, int] = defaultdict(int)
    for event, allocation in paid:
        if allocation.granted_nano:
            posted[event.grant_id] += allocation.granted_nano
    return dict(posted)


def part_of_tenant(
    transaction_id: LedgerTransactionId, region: str, budget: LockedBudget, paid: Sequence[Paid]
) -> TenantPart:
    """One ledger transaction for all of a tenant's events in a batch, and what moves with it."""
    tenant_id = TenantId(budget.tenant_id)
    charged = sum(allocation.charged_nano for _, allocation in paid)
    granted = sum(allocation.granted_nano for _, allocation in paid)
    written_off = sum(allocation.written_off_nano for _, allocation in paid)
    lines = (
        Line(Account(AccountKind.TENANT_FUNDS, budget.currency, tenant_id=tenant_id), -charged),
        Line(Account(AccountKind.WRITE_OFF, budget.currency), -written_off),
        Line(Account(AccountKind.REVENUE, budget.currency, region=region), charged + written_off),
    )
    moving = tuple(line for line in lines if line.amount_nano)
    posting = Posting(transaction_id, TransactionKind.USAGE, tenant_id, budget.currency, moving) if moving else None
    announcement = {
        "transaction_id": str(transaction_id),
        "tenant_id": str(tenant_id),
        "region": region,
        "events": len(paid),
        "charged": format_nano(charged),
        "currency": budget.currency,
    }
    return TenantPart(Movement(budget.tenant_id, charged, granted), posting, announcement)


def event_row(
    one: Paid,
    region: str,
    gateway: str,
    prices: Mapping[UUID, ListedPrice],
    transactions: Mapping[UUID, LedgerTransactionId],
) -> dict[str, Any]:
    event, allocation = one
    return {
        "request_id": event.request_id,
        "tenant_id": event.tenant_id,
        "project_id": event.project_id,
        "key_id": event.key_id,
        "grant_id": event.grant_id,
        "region": region,
        "gateway": gateway,
        "listing_id": prices[event.price_version].listing_id,
        "price_version_id": event.price_version,
        "outcome": event.outcome,
        "prompt_tokens": event.counts.prompt_tokens,
        "cached_tokens": event.counts.cached_tokens,
        "completion_tokens": event.counts.completion_tokens,
        "amount_nano": event.amount_nano,
        "granted_nano": allocation.granted_nano,
        "written_off_nano": allocation.written_off_nano,
        "hold_nano": event.hold_nano,
        "started_at": event.started_at,
        "finished_at": event.finished_at,
        "ttft_ms": event.ttft_ms,
        "transaction_id": transactions.get(event.tenant_id),
    }


def hour_rows(paid: Sequence[Paid], region: str, prices: Mapping[UUID, ListedPrice]) -> list[dict[str, Any]]:
    """Sums by tenant, project, key and listing; the hour itself is the database's to say."""
    sums: dict[tuple[UUID, UUID, UUID, UUID], dict[str, Any]] = {}
    for event, allocation in paid:
        listing_id = prices[event.price_version].listing_id
        row = sums.setdefault(
            (event.tenant_id, event.project_id, event.key_id, listing_id),
            {
                "tenant_id": event.tenant_id,
                "project_id": event.project_id,
                "key_id": event.key_id,
                "listing_id": listing_id,
                "region": region,
                "requests": 0,
                "prompt_tokens": 0,
                "cached_tokens": 0,
                "completion_tokens": 0,
                "amount_nano": 0,
                "written_off_nano": 0,
            },
        )
        row["requests"] += 1
        row["prompt_tokens"] += event.counts.prompt_tokens
        row["cached_tokens"] += event.counts.cached_tokens
        row["completion_tokens"] += event.counts.completion_tokens
        row["amount_nano"] += event.amount_nano
        row["written_off_nano"] += allocation.written_off_nano
    return [sums[key] for key in sorted(sums)]
