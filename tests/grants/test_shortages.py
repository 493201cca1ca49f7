"""A recall reaches every gateway that was asked, once for each need, whether it listens just then or a moment later."""

import asyncio

from chappe_control.shortages import AGAIN_S, Shortages
from chappe_kernel.ids import new_id
from tests.control.world import HandClock

PARIS, LYON = ("fr-par", "gw-1"), ("fr-par", "gw-2")


async def test_who_listens_is_told_at_once_and_nobody_else() -> None:
    shortages, tenant = Shortages(HandClock()), new_id()
    listening = [asyncio.create_task(shortages.recalls_of(one, "", 0.3)) for one in (PARIS, LYON)]
    await asyncio.sleep(0)
    shortages.recall(tenant, [PARIS])
    told, not_told = await asyncio.gather(*listening)
    assert told.tenants == (tenant,)
    assert not_told.tenants == ()


async def test_who_asks_a_moment_later_is_told_once() -> None:
    shortages, tenant, other = Shortages(HandClock()), new_id(), new_id()
    shortages.recall(tenant, [PARIS])
    first = await shortages.recalls_of(PARIS, "", 0)
    assert first.tenants == (tenant,)
    assert (await shortages.recalls_of(PARIS, first.cursor, 0)).tenants == ()
    shortages.recall(other, [PARIS])
    assert (await shortages.recalls_of(PARIS, first.cursor, 0)).tenants == (other,)


async def test_a_cursor_of_another_process_means_nothing_here() -> None:
    shortages, tenant = Shortages(HandClock()), new_id()
    shortages.recall(tenant, [PARIS])
    for cursor in ("nobody:7", f"{new_id().hex}:1", "x", ":", "nobody:²"):
        assert (await shortages.recalls_of(PARIS, cursor, 0)).tenants == (tenant,)


async def test_a_need_that_lasts_is_told_again_and_an_old_one_is_forgotten() -> None:
    clock, tenant = HandClock(), new_id()
    shortages = Shortages(clock)
    shortages.recall(tenant, [PARIS])
    first = await shortages.recalls_of(PARIS, "", 0)
    shortages.recall(tenant, [PARIS])
    assert (await shortages.recalls_of(PARIS, first.cursor, 0)).tenants == ()
    clock.advance(AGAIN_S)
    shortages.recall(tenant, [PARIS])
    assert (await shortages.recalls_of(PARIS, first.cursor, 0)).tenants == (tenant,)
    clock.advance(60)
    shortages.recall(new_id(), [LYON])
    assert (await shortages.recalls_of(PARIS, "", 0)).tenants == ()


async def test_who_waits_for_money_is_woken_when_it_comes_back() -> None:
    shortages, tenant = Shortages(HandClock()), new_id()
    async with shortages.waiting(tenant) as event, shortages.waiting(new_id()) as others:
        shortages.came_back([tenant, new_id()])
        assert event.is_set()
        assert not others.is_set()
    shortages.came_back([tenant])
