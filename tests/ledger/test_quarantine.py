"""Each event in quarantine is decided about once: posted, corrected in the tenant's favour, or given up."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from chappe_billing.quarantine import service
from chappe_billing.quarantine.queries import Quarantined, list_quarantined
from chappe_billing.quarantine.service import Correction, Decided
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageEvent
from tests.billing.conftest import Customer, Market
from tests.ledger.conftest import account, assert_intact, available

GIFT = 10_000_000_000


async def waiting(market: Market, *, decided: bool = False) -> list[Quarantined]:
    async with market.database.audit() as session:
        return await list_quarantined(session, decided=decided, limit=100)


async def decide(
    market: Market, work: Callable[..., Awaitable[Decided]], *more: object, reason: str = "looked at"
) -> Decided:
    """About the one that waits."""
    (found,) = await waiting(market)
    async with market.database.ingest() as session:
        return await work(session, found.request_id, found.digest, *more, reason=reason)


async def unknown_key(market: Market, customer: Customer) -> UsageEvent:
    """An event under a key that the database does not know (yet)."""
    grant = await market.ask(customer, 1_000_000)
    event = market.event(customer, grant.grant_id, key_id=new_id())
    assert (await market.ingest(event)).quarantined == 1
    return event


async def make_key_known(market: Market, customer: Customer, event: UsageEvent) -> None:
    statement = """
        INSERT INTO api_key (tenant_id, id, project_id, kind, name, prefix, pepper_version, digest)
        VALUES (:tenant, :id, :project, 'inference', 'restored', 'ck_i', 1, sha256('restored'))
    """
    async with market.database.operator() as session:
        values = {"tenant": customer.tenant_id, "id": event.key_id, "project": customer.project_id}
        await session.execute(text(statement), values)


async def test_what_is_known_by_now_is_posted_as_it_came(market: Market, customer: Customer) -> None:
    event = await unknown_key(market, customer)
    with pytest.raises(Conflict) as refused:
        await decide(market, service.accept)
    assert refused.value.code == "still_refused"
    await make_key_known(market, customer, event)
    decided = await decide(market, service.accept)
    assert (decided.decision, decided.amount_nano) == ("accepted", event.amount_nano)
    assert await available(market, customer) == GIFT - event.amount_nano
    assert await waiting(market) == []
    again = await market.ingest(event)
    assert (again.posted, again.repeated) == (0, 1)
    await assert_intact(market)


async def test_a_correction_is_posted_for_less(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    event = market.event(customer, grant.grant_id, amount_nano=40_000)
    await market.ingest(event)
    with pytest.raises(Invalid) as refused:
        await decide(market, service.correct, Correction(counts=Counts(10**6, 0, 0)))
    assert refused.value.code == "not_in_the_tenants_favour"
    decided = await decide(market, service.correct, Correction())
    assert (decided.decision, decided.amount_nano) == ("corrected", market.event(customer, new_id()).amount_nano)
    assert await available(market, customer) == GIFT - decided.amount_nano
    await assert_intact(market)


async def test_an_event_under_an_unknown_price_is_posted_under_a_known_one(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    await market.ingest(market.event(customer, grant.grant_id, price_version=new_id()))
    with pytest.raises(Invalid):
        await decide(market, service.correct, Correction())
    decided = await decide(market, service.correct, Correction(price_version=market.prices["fr-par"]))
    assert decided.amount_nano == market.event(customer, new_id()).amount_nano
    await assert_intact(market)


async def test_what_is_given_up_is_the_operators_loss_and_stays_out(market: Market, customer: Customer) -> None:
    event = await unknown_key(market, customer)
    decided = await decide(market, service.write_off)
    assert (decided.decision, decided.amount_nano) == ("written_off", event.amount_nano)
    assert await account(market, "write_off") == -event.amount_nano
    assert await available(market, customer) == GIFT
    await make_key_known(market, customer, event)
    again = await market.ingest(event)
    assert (again.posted, again.repeated) == (0, 1)
    assert await available(market, customer) == GIFT
    await assert_intact(market)


@pytest.mark.parametrize("amount_nano", [0, -5, 2**70])
async def test_what_no_amount_can_be_is_given_up_without_a_posting(
    market: Market, customer: Customer, amount_nano: int
) -> None:
    await market.ingest(market.event(customer, new_id(), amount_nano=amount_nano, key_id=new_id()))
    decided = await decide(market, service.write_off)
    assert (decided.amount_nano, decided.transaction_id) == (0, None)
    await assert_intact(market)


async def test_another_version_of_a_posted_request_is_dismissed(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    event = market.event(customer, grant.grant_id)
    await market.ingest(event)
    await market.ingest(market.event(customer, grant.grant_id, request_id=event.request_id, key_id=new_id()))
    with pytest.raises(Conflict):
        await decide(market, service.accept)
    assert (await decide(market, service.write_off)).decision == "dismissed"
    assert await available(market, customer) == GIFT - event.amount_nano
    await assert_intact(market)


async def test_an_event_is_decided_about_once_however_many_try(market: Market, customer: Customer) -> None:
    event = await unknown_key(market, customer)
    await make_key_known(market, customer, event)
    (found,) = await waiting(market)

    async def one(work: Callable[..., Awaitable[Decided]]) -> str:
        try:
            async with market.database.ingest() as session:
                return (await work(session, found.request_id, found.digest, reason="looked at")).decision
        except Conflict as error:
            return error.code

    told = await asyncio.gather(*(one(work) for work in (service.accept, service.write_off) * 3))
    assert sorted(told).count("already_resolved") == 5
    await assert_intact(market)


async def test_nobody_decides_about_nothing_or_without_a_reason(market: Market, customer: Customer) -> None:
    await unknown_key(market, customer)
    with pytest.raises(Invalid):
        await decide(market, service.write_off, reason=" ")
    with pytest.raises(NotFound):
        async with market.database.ingest() as session:
            await service.write_off(session, new_id(), b"x", reason="looked at")
