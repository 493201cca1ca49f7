"""Who runs low is topped up by their saved method: one at a time, so often in a month, and not against a refusal."""

import asyncio

from chappe_billing.payments.auto_top_ups import Wanted, set_auto_top_up
from chappe_billing.payments.service import Bounds
from chappe_store.session import TenantScope
from tests.payments.world import REFUSED_ONCE_SAVED, PaymentWorld

_EUR = 10**9


async def _want(world: PaymentWorld, scope: TenantScope, most: int = 3) -> None:
    wanted = Wanted(is_on=True, below_nano=10 * _EUR, net_nano=50 * _EUR, most_per_month=most)
    async with world.database.tenant(scope) as session:
        await set_auto_top_up(session, scope, wanted, bounds=Bounds())


async def _spend(world: PaymentWorld, scope: TenantScope, units: int) -> None:
    """As if so much had been used."""
    await world.sql(
        "UPDATE budget SET posted_nano = posted_nano + :nano WHERE tenant_id = :id",
        nano=units * _EUR,
        id=scope.tenant_id,
    )


async def test_a_low_balance_is_topped_up_once_by_any_number_of_workers(world: PaymentWorld) -> None:
    scope = await world.buyer()
    await world.save_card(scope)
    await _want(world, scope)
    assert sum(await asyncio.gather(*(world.office.top_up_all() for _ in range(6)))) == 1
    await world.work()
    await world.hear_all()
    assert await world.balance_nano(scope) == 50 * _EUR
    assert await world.office.top_up_all() == 0
    await world.assert_sound()


async def test_it_stops_at_its_number_for_the_month(world: PaymentWorld) -> None:
    scope = await world.buyer()
    await world.save_card(scope)
    await _want(world, scope, most=2)
    for _ in range(4):
        await world.office.top_up_all()
        await world.work()
        balance = await world.balance_nano(scope)
        if balance > 0:
            await _spend(world, scope, balance // _EUR)
    assert await world.sql("SELECT count(*) FROM payment WHERE state = 'succeeded'") == [(2,)]


async def test_refusals_are_told_waited_after_and_end_it(world: PaymentWorld) -> None:
    scope = await world.buyer()
    await world.save_card(scope, REFUSED_ONCE_SAVED)
    await _want(world, scope)
    for tries in range(1, 4):
        assert await world.office.top_up_all() == 1
        await world.work()
        assert await world.office.top_up_all() == 0, "it waits"
        [(failures, waits)] = await world.sql("SELECT failures, next_at > now() FROM auto_top_up")
        assert (failures, waits) == (tries, True)
        await world.sql("UPDATE auto_top_up SET next_at = now()")
    assert await world.sql("SELECT is_on FROM auto_top_up") == [(False,)]
    told = await world.sql(
        "SELECT payload ->> 'reason', payload ->> 'amount' FROM outbox WHERE topic = 'payment.failed'"
    )
    assert len(told) == 3
    assert set(told) == {("generic_decline", "60.000000000")}
    assert await world.balance_nano(scope) == 0
