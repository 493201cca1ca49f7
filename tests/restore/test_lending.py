"""A restored database lends nothing before it knows what was spent and what is held."""

from uuid import UUID

import pytest
from sqlalchemy import text

from chappe_billing.audit.service import verify_ledger
from chappe_billing.restoring.queries import lend_from_now
from chappe_billing.restoring.service import keep_grant, mark_restored
from chappe_catalogue.regions.service import beat
from chappe_control.restores import notice_restore
from chappe_kernel.errors import Conflict, NotFound, Unavailable
from chappe_kernel.ids import new_id
from chappe_kernel.wire import control as wire
from chappe_store.queries import read_epoch
from tests.billing.conftest import Customer, MakeCustomer, Market, customer, make_customer, market

__all__ = ["customer", "make_customer", "market"]

_LISTENED = text("UPDATE instance SET listens_until = now()")
_ELSEWHERE = text("UPDATE instance SET server = '7000-00000001'")


async def restored(market: Market) -> str:
    """As `chappe restore` leaves it, but that it has listened for long enough."""
    async with market.database.operator() as session:
        epoch = str(await mark_restored(session))
    async with market.database.operator() as session:
        await session.execute(_LISTENED)
    return epoch


async def tell(market: Market, gateway: str, epoch: str) -> None:
    async with market.database.ingest() as session:
        await beat(session, region="fr-par", heartbeat=wire.Heartbeat(gateway, "", (), sent_again=epoch))


async def keep(market: Market, customer: Customer, grant_id: UUID, **changes: object) -> None:
    region = str(changes.pop("region", "fr-par"))
    values: dict[str, object] = {
        "tenant_id": customer.tenant_id,
        "gateway": "gw-1",
        "amount_nano": 1_000_000,
        "returned_nano": 400_000,
        "settle_for_s": 100.0,
        "release_for_s": 120.0,
    }
    async with market.database.ingest() as session:
        kept = wire.KeptGrant(**(values | changes))  # type: ignore[arg-type]  # a test may change any field
        await keep_grant(session, region=region, grant_id=grant_id, kept=kept)


async def pending(market: Market, customer: Customer) -> int:
    return int(
        await market.scalar("SELECT pending_nano FROM budget WHERE tenant_id = :tenant", tenant=customer.tenant_id)
    )


async def test_it_lends_when_every_gateway_has_told(market: Market, customer: Customer) -> None:
    await tell(market, "gw-1", "")
    await tell(market, "gw-2", "")
    await market.ask(customer, 5_000)
    epoch = await restored(market)
    assert await pending(market, customer) == 0
    for gateway in ("gw-1", "gw-2"):
        with pytest.raises(Unavailable) as refused:
            await market.ask(customer, 1)
        assert refused.value.code == "budget_unavailable"
        # One of another database, or of nothing, tells nothing.
        await tell(market, gateway, str(new_id()))
        with pytest.raises(Unavailable):
            await market.ask(customer, 1)
        await tell(market, gateway, epoch)
    assert (await market.ask(customer, 5_000)).amount_nano == 5_000
    # Who comes later, or begins anew, stops nobody.
    await tell(market, "gw-3", "")
    await market.ask(customer, 1)


async def test_a_gateway_that_is_gone_is_waited_for_as_long_as_its_grants_lived(
    market: Market, customer: Customer
) -> None:
    await tell(market, "gone", "")
    await market.ask(customer, 5_000)
    epoch = await restored(market)
    await tell(market, "gw-1", epoch)
    waits = await market.scalar("SELECT extract(epoch FROM lends_from - now())::float FROM instance")
    assert 190 < waits <= 200
    with pytest.raises(Unavailable):
        await market.ask(customer, 1)
    async with market.database.operator() as session:
        assert await lend_from_now(session)
    await market.ask(customer, 1)
    async with market.database.operator() as session:
        assert not await lend_from_now(session)


async def test_what_is_held_is_not_lent_again(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(1_000_000)
    known = await market.ask(customer, 300_000)
    epoch = await restored(market)
    # One that the database had closed, one that it never heard of; twice each.
    unknown = new_id()
    for _ in range(2):
        await keep(market, customer, known.grant_id, amount_nano=300_000, returned_nano=100_000)
        await keep(market, customer, unknown, amount_nano=600_000, returned_nano=0)
    assert await pending(market, customer) == 800_000
    events = [market.event(customer, grant) for grant in (known.grant_id, unknown)]
    assert (await market.ingest(*events)).posted == 2
    spent = sum(event.amount_nano for event in events)
    assert await pending(market, customer) == 800_000 - spent
    await tell(market, "gw-1", epoch)
    assert (await market.ask(customer, 1_000_000)).amount_nano == 200_000
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


async def test_no_more_is_kept_than_there_is(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(500_000)
    await restored(market)
    first, second = new_id(), new_id()
    await keep(market, customer, first, amount_nano=400_000, returned_nano=0)
    await keep(market, customer, second, amount_nano=400_000, returned_nano=0)
    assert await pending(market, customer) == 500_000
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


async def test_a_grant_is_kept_only_after_a_restore_and_only_by_its_gateway(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 5_000)
    with pytest.raises(Conflict):
        await keep(market, customer, grant.grant_id)
    await restored(market)
    with pytest.raises(NotFound):
        await keep(market, customer, grant.grant_id, gateway="gw-2")
    with pytest.raises(NotFound):
        await keep(market, customer, grant.grant_id, region="de-fra")
    assert await pending(market, customer) == 0


async def test_a_closed_grant_asked_for_again_admits_nothing(market: Market, customer: Customer) -> None:
    """Its gateway never heard the answer of the database that is gone."""
    grant = await market.ask(customer, 5_000)
    await restored(market)
    again = await market.ask(customer, 5_000, grant_id=grant.grant_id)
    assert (again.admit_for_s, again.release_for_s) == (0, 0)


async def test_a_server_that_does_not_know_that_it_was_restored_finds_out(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 5_000)
    before = await market.scalar("SELECT epoch FROM instance")
    async with market.database.operator() as session:
        await session.execute(_ELSEWHERE)
    with pytest.raises(Unavailable):
        await market.ask(customer, 1)
    with pytest.raises(Unavailable):
        # Else its gateway would believe that this database has it.
        await market.ingest(market.event(customer, grant.grant_id))
    assert await market.scalar("SELECT count(*) FROM usage_event") == 0
    await notice_restore(market.database)
    after = await market.scalar("SELECT epoch FROM instance")
    assert after != before
    await notice_restore(market.database)
    async with market.database.ingest() as session:
        assert await read_epoch(session) == after
    assert await pending(market, customer) == 0
    assert (await market.ingest(market.event(customer, grant.grant_id))).posted == 1
