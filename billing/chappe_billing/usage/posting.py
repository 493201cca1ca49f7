"""Rows and ledger lines for events whose money is allocated. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from uuid import UUID

from msgspec import Struct

from chappe_billing.budgets.queries import LockedBudget, Movement
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, Share, TransactionKind
from chappe_billing.ledger.sharing import share_lines
from chappe_billing.prices.queries import ListedPrice
from chappe_billing.usage.allocation import Allocation
from chappe_billing.usage.lines import pack_line
from chappe_billing.usage.queries import Standing
from chappe_kernel.ids import LedgerTransactionId, TenantId
from chappe_kernel.money import format_nano
from chappe_kernel.wire.control import UsageEvent

Paid = tuple[UsageEvent, Allocation]


class Sold(Struct):
    """What a tenant's events under one price version come to."""

    tenant_id: UUID
    price_version: UUID
    events: int = 0
    charged_nano: int = 0
    granted_nano: int = 0
    written_off_nano: int = 0


class TenantPart(Struct, frozen=True):
    """What a batch does to one tenant. `posting` is None when all of it was free of charge."""

    movement: Movement
    posting: Posting | None


def tenant_after_tenant(events: Iterable[UsageEvent], at_least: int) -> Iterator[list[UsageEvent]]:
    """Whole tenants' events, those of small tenants together until there are as many. Each tenant's keep their order;
    and so neighbours in the indexes are inserted one after the other."""
    together: list[UsageEvent] = []
    last = None
    for event in sorted(events, key=lambda event: event.tenant_id.int):
        if len(together) >= at_least and event.tenant_id.int != last:
            yield together
            together = []
        together.append(event)
        last = event.tenant_id.int
    if together:
        yield together


def evenly_cut(paid: Sequence[Paid], at_least: int) -> Iterator[Sequence[Paid]]:
    """In pieces of nearly one size, each of as many or, if there are so few, of all."""
    pieces = max(1, len(paid) // at_least)
    cuts = [len(paid) * number // pieces for number in range(pieces + 1)]
    return (paid[first:last] for first, last in pairwise(cuts) if first < last)


def sold_to_tenants(paid: Sequence[Paid]) -> list[tuple[UUID, list[Sold]]]:
    """By tenant, in the order of their ids; of each one entry for every price version."""
    sums: dict[tuple[int, int], Sold] = {}
    for event, allocation in paid:
        # Numbers, and not the ids themselves: those hash and compare in Python, ten times as slowly.
        key = (event.tenant_id.int, event.price_version.int)
        sold = sums.get(key)
        if sold is None:
            sold = sums[key] = Sold(event.tenant_id, event.price_version)
        sold.events += 1
        sold.charged_nano += allocation.granted_nano + allocation.taken_nano
        sold.granted_nano += allocation.granted_nano
        sold.written_off_nano += allocation.written_off_nano
    parts: defaultdict[UUID, list[Sold]] = defaultdict(list)
    for sold in sums.values():
        parts[sold.tenant_id].append(sold)
    return sorted(parts.items())


def posted_by_grant(paid: Sequence[Paid]) -> dict[UUID, int]:
    """What each grant's pending money paid."""
    posted: defaultdict[int, int] = defaultdict(int)
    for event, allocation in paid:
        posted[event.grant_id.int] += allocation.granted_nano
    return {UUID(int=grant_id): amount_nano for grant_id, amount_nano in posted.items() if amount_nano}


def part_of_tenant(
    transaction_id: LedgerTransactionId,
    region: str,
    budget: LockedBudget,
    sold: Sequence[Sold],
    prices: Mapping[UUID, ListedPrice],
) -> TenantPart:
    """One ledger transaction for all of a tenant's events in a batch, and what moves with it."""
    tenant_id = TenantId(budget.tenant_id)
    charged = sum(one.charged_nano for one in sold)
    granted = sum(one.granted_nano for one in sold)
    written_off = sum(one.written_off_nano for one in sold)
    shares = publishers_shares(region, sold, prices)
    shared = sum(share.share_nano for share in shares)
    currency, entity = budget.currency, budget.legal_entity_id
    lines = (
        Line(Account(AccountKind.TENANT_FUNDS, currency, entity, tenant_id=tenant_id), -charged),
        Line(Account(AccountKind.WRITE_OFF, currency, entity), -written_off),
        Line(Account(AccountKind.REVENUE, currency, entity, region=region), charged + written_off - shared),
        *share_lines(shares, currency, entity),
    )
    moving = tuple(line for line in lines if line.amount_nano)
    posting = None
    if moving:
        posting = Posting(
            transaction_id,
            TransactionKind.USAGE,
            tenant_id,
            currency,
            moving,
            shares=shares,
            topic="usage.posted",
            announced={"region": region, "events": sum(one.events for one in sold), "charged": format_nano(charged)},
        )
    return TenantPart(Movement(budget.tenant_id, charged, granted), posting)


def publishers_shares(region: str, sold: Sequence[Sold], prices: Mapping[UUID, ListedPrice]) -> tuple[Share, ...]:
    """What publishers earn of what the tenant pays, by listing. What is written off is nobody's earning."""
    bases: defaultdict[UUID, int] = defaultdict(int)
    listed: dict[UUID, ListedPrice] = {}
    for one in sold:
        price = prices[one.price_version]
        listed[price.listing_id] = price
        bases[price.listing_id] += one.charged_nano
    return tuple(
        Share(listing_id, listed[listing_id].publisher_id, region, listed[listing_id].share_bp, base)
        for listing_id, base in sorted(bases.items())
        if base and listed[listing_id].share_bp
    )


def standings_and_lines(
    paid: Sequence[Paid],
    prices: Mapping[UUID, ListedPrice],
    transactions: Mapping[UUID, LedgerTransactionId],
    repeats: Mapping[UUID, UUID],
) -> tuple[list[Standing], list[bytes]]:
    """Events as lines to insert; what several of them share stands apart, once."""
    standings: list[Standing] = []
    numbers: dict[tuple[int | str, ...], int] = {}
    lines: list[bytes] = []
    for event, allocation in paid:
        shared = (
            event.key_id.int,
            event.project_id.int,
            event.grant_id.int,
            event.price_version.int,
            event.outcome,
            event.settled_by,
        )
        number = numbers.get(shared)
        if number is None:
            number = numbers[shared] = len(numbers) + 1
            standings.append(
                Standing(
                    tenant_id=event.tenant_id,
                    project_id=event.project_id,
                    key_id=event.key_id,
                    grant_id=event.grant_id,
                    listing_id=prices[event.price_version].listing_id,
                    price_version_id=event.price_version,
                    transaction_id=transactions.get(event.tenant_id),
                    outcome=event.outcome,
                    settled_by=event.settled_by,
                )
            )
        lines.append(pack_line(number, event, allocation, repeats.get(event.request_id) if repeats else None))
    return standings, lines
