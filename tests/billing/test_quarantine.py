"""What cannot be posted is kept with the reason, costs nothing, and never blocks its batch."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from chappe_billing.audit.service import verify_ledger
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageEvent
from tests.billing.conftest import NOW, Customer, MakeCustomer, Market

FAULTS: dict[str, tuple[str, Callable[[Market], dict[str, object]]]] = {
    "unknown tenant": ("unknown_tenant", lambda _: {"tenant_id": new_id()}),
    "unknown key": ("unknown_key", lambda _: {"key_id": new_id()}),
    "another project": ("unknown_key", lambda _: {"project_id": new_id()}),
    "unknown price": ("unknown_price_version", lambda _: {"price_version": new_id()}),
    "another region's price": ("price_mismatch", lambda market: {"price_version": market.prices["de-fra"]}),
    "another listing": ("price_mismatch", lambda _: {"listing": "secret words of a tenant"}),
    "amount too small": ("amount_mismatch", lambda _: {"amount_nano": 1}),
    "negative amount": ("amount_mismatch", lambda _: {"amount_nano": -1}),
    "amount beyond 64 bits": ("amount_mismatch", lambda _: {"amount_nano": 2**70}),
    "over its hold": ("over_hold", lambda _: {"hold_nano": 10}),
    "hold beyond 64 bits": ("over_hold", lambda _: {"hold_nano": 2**70}),
    "counts beyond 64 bits": ("impossible_counts", lambda _: {"counts": Counts(2**70, 0, 0)}),
    "too many tokens made": ("impossible_counts", lambda _: {"counts": Counts(1, 0, 10**9 + 1)}),
    "negative time to first token": ("impossible_counts", lambda _: {"ttft_ms": -1}),
    "time without zone": ("impossible_times", lambda _: {"started_at": NOW.replace(tzinfo=None)}),
    "time of another age": ("impossible_times", lambda _: {"finished_at": datetime(1, 1, 1, tzinfo=UTC)}),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_faulty_event_is_kept_and_its_neighbours_are_posted(
    market: Market, customer: Customer, fault: str
) -> None:
    code, changes = FAULTS[fault]
    grant = await market.ask(customer, 1_000_000)
    good = [market.event(customer, grant.grant_id) for _ in range(2)]
    bad = market.event(customer, grant.grant_id, **changes(market))
    receipt = await market.ingest(good[0], bad, good[1])
    assert (receipt.posted, receipt.repeated, receipt.quarantined) == (2, 0, 1)
    assert await market.scalar("SELECT code FROM usage_quarantine") == code
    spent = sum(event.amount_nano for event in good)
    assert (await market.balance(customer)).available_nano == 10_000_000_000 - spent
    again = await market.ingest(bad)
    assert (again.posted, again.repeated, again.quarantined) == (0, 1, 0)
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


async def test_the_kept_event_is_the_whole_event_without_foreign_words(market: Market, customer: Customer) -> None:
    known = market.event(customer, new_id(), amount_nano=5)
    unknown = market.event(customer, new_id(), listing="secret words of a tenant")
    await market.ingest(known, unknown)
    kept = await market.scalar("SELECT event FROM usage_quarantine WHERE request_id = :id", id=known.request_id)
    assert msgspec.convert(kept, UsageEvent) == known
    assert "secret" not in str(await market.scalar("SELECT string_agg(event::text, '') FROM usage_quarantine"))


async def test_another_tenants_grant_pays_nothing(market: Market, make_customer: MakeCustomer) -> None:
    payer, user = await make_customer(), await make_customer()
    grant = await market.ask(payer, 1_000_000)
    receipt = await market.ingest(market.event(user, grant.grant_id))
    assert receipt.quarantined == 1
    assert await market.scalar("SELECT code FROM usage_quarantine") == "grant_mismatch"
    assert (await market.balance(payer)).pending_nano == 1_000_000


async def test_another_regions_grant_pays_nothing(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000, region="de-fra")
    assert (await market.ingest(market.event(customer, grant.grant_id))).quarantined == 1


async def test_a_posted_requests_id_with_another_tenants_key_changes_nothing(
    market: Market, customer: Customer, make_customer: MakeCustomer
) -> None:
    other = await make_customer()
    grant = await market.ask(customer, 1_000_000)
    first = market.event(customer, grant.grant_id)
    await market.ingest(first)
    balance = await market.balance(customer)
    second = market.event(other, new_id(), request_id=first.request_id, counts=Counts(9, 0, 9))
    receipt = await market.ingest(second, first)
    assert (receipt.posted, receipt.repeated, receipt.quarantined, receipt.disputed) == (0, 1, 1, 0)
    assert await market.scalar("SELECT code FROM usage_quarantine") == "differs_from_posted"
    assert await market.balance(customer) == balance


async def test_what_contradicts_a_refused_event_is_refused_as_well(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    first = market.event(customer, grant.grant_id, amount_nano=1)
    second = market.event(customer, grant.grant_id, request_id=first.request_id, counts=Counts(9, 0, 9))
    receipt = await market.ingest(first, second)
    assert (receipt.posted, receipt.repeated, receipt.quarantined) == (0, 0, 2)
