"""A grant's return overtakes its events, events arrive after its release, and meanwhile others want the money.

Fault 28 of the design, in every order: nothing is freed twice, and the overrun is a write-off, never an overdraft.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import asyncpg
import pytest

from chappe_billing.grants.service import return_grant
from chappe_kernel.errors import InsufficientFunds, Unavailable
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageEvent
from tests.billing.conftest import TERMS, Customer, MakeCustomer, Market
from tests.money import moved_clock
from tests.money.sums import assert_whole

FUNDS = 30_000
# 21,007 nanos of them.
COUNTS = Counts(100, 0, 71)
STEPS = ("return", "event", "release", "others", "other's event")


@pytest.mark.timeout(600)
async def test_every_order_of_return_events_release_and_others_wants(
    market: Market, make_customer: MakeCustomer, superuser: "asyncpg.Connection[Any]"
) -> None:
    now = datetime.now(UTC)
    await moved_clock.install(superuser, now)
    seen = {0: 0, 1: 0}
    for order in permutations(STEPS):
        if order.index("other's event") < order.index("others"):
            continue
        customer = await make_customer(FUNDS)
        tried = Tried(market, customer)
        await tried.begin()
        for step in order:
            if step == "release":
                now += timedelta(seconds=TERMS.release_s)
                await moved_clock.set_to(superuser, now)
            else:
                await tried.steps[step]()
            await tried.assert_within_funds(order)
        seen[await tried.assert_all_is_accounted_for(superuser, order) > 0] += 1
    await assert_whole(superuser, market.database)
    assert min(seen.values()) > 0, "some orders cost the operator something, and some do not"


class Tried:
    """One order with one customer, all of whose money is lent to one gateway."""

    def __init__(self, market: Market, customer: Customer) -> None:
        self._market = market
        self._customer = customer
        self._sent: list[UsageEvent] = []
        self._other: UsageEvent | None = None
        self.steps: dict[str, Callable[[], Awaitable[None]]] = {
            "return": self._return,
            "event": self._event,
            "others": self._lend_to_others,
            "other's event": self._other_event,
        }

    async def begin(self) -> None:
        self._grant = await self._market.ask(self._customer, FUNDS)
        self._own = self._market.event(self._customer, self._grant.grant_id, counts=COUNTS)

    async def assert_within_funds(self, order: tuple[str, ...]) -> None:
        balance = await self._market.balance(self._customer)
        assert balance.available_nano >= balance.pending_nano >= 0, order

    async def assert_all_is_accounted_for(self, superuser: "asyncpg.Connection[Any]", order: tuple[str, ...]) -> int:
        """What was written off."""
        query = "SELECT sum(amount_nano)::bigint, sum(written_off_nano)::bigint FROM usage_event WHERE tenant_id = $1"
        [(amount, written_off)] = await superuser.fetch(query, self._customer.tenant_id)
        assert amount == sum(event.amount_nano for event in self._sent), order
        assert (await self._market.balance(self._customer)).available_nano == FUNDS - amount + written_off, order
        # Only what comes after its grant's release can find the money gone.
        if order.index("event") < order.index("release"):
            assert written_off == 0, order
        return int(written_off)

    async def _return(self) -> None:
        rest = FUNDS - self._own.amount_nano
        for returned in (rest, rest, rest // 2):
            async with self._market.database.ingest() as session:
                await return_grant(session, region="fr-par", grant_id=self._grant.grant_id, returned_nano=returned)

    async def _event(self) -> None:
        await self._market.ingest(self._own, self._own)
        await self._market.ingest(self._own)
        self._sent.append(self._own)

    async def _lend_to_others(self) -> None:
        """All that is free."""
        try:
            grant = await self._market.ask(self._customer, FUNDS, gateway="gw-2", grant_id=new_id())
        except (Unavailable, InsufficientFunds):
            return
        made = (grant.amount_nano - 6007) // 210
        if made >= 0:
            self._other = self._market.event(self._customer, grant.grant_id, counts=Counts(100, 0, made))

    async def _other_event(self) -> None:
        if self._other is not None:
            await self._market.ingest(self._other, gateway="gw-2")
            self._sent.append(self._other)
