"""Where the state machine plays: the real services over a real database, with a clock of its own, a way to it that can
be cut, backups, and a loop to run them in.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.balance.queries import Balance, read_balance
from chappe_billing.prices.queries import all_prices
from chappe_gateway.access.snapshot import View
from chappe_kernel.ids import TenantId, new_id
from chappe_kernel.wire import control as wire
from chappe_store.queries import read_epoch, renew_epoch
from chappe_store.session import Database, TenantScope
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.money import moved_clock, snapshots
from tests.money.cells import Caller
from tests.money.cut import Cut

_BEGINNING, _BACKUP = "at_the_beginning", "backed_up"
T = TypeVar("T")
Work = Callable[[AsyncSession], Awaitable[T]]

FUNDS = (150_000, 40_000)
LIMIT = 60_000
"""The second tenant's: the first pays in advance."""
TENANTS_CAP, KEYS_CAP = 110_000, 50_000


@dataclass(frozen=True)
class Cast:
    """Who is there when a play of the machine begins."""

    market: Market
    customers: tuple[Customer, Customer]
    callers: tuple[Caller, ...]
    caps: dict[UUID, tuple[Customer, UUID | None, int]]
    starts_at: datetime
    """Ten minutes before a month's end."""


async def prepare(market: Market, make_customer: MakeCustomer, superuser: "asyncpg.Connection[Any]") -> Cast:
    """Two tenants with money; the first has a monthly budget, and another for one of its two keys."""
    first, second = [await make_customer(funds) for funds in FUNDS]
    other_key = new_id()
    await superuser.execute("UPDATE budget SET credit_limit_nano = $2 WHERE tenant_id = $1", second.tenant_id, LIMIT)
    await superuser.execute(
        "INSERT INTO api_key (tenant_id, id, project_id, kind, name, prefix, pepper_version, digest) "
        "SELECT tenant_id, $1, project_id, kind, 'other', prefix, pepper_version, $2 FROM api_key WHERE id = $3",
        other_key,
        other_key.bytes * 2,
        first.key_id,
    )
    caps: dict[UUID, tuple[Customer, UUID | None, int]] = {
        new_id(): (first, None, TENANTS_CAP),
        new_id(): (first, other_key, KEYS_CAP),
    }
    for quota_id, (customer, key_id, amount) in caps.items():
        await superuser.execute(
            "INSERT INTO quota (tenant_id, id, level, key_id, monthly_budget_nano, alert_percents) "
            "VALUES ($1, $2, $3, $4, $5, '{50,100}')",
            customer.tenant_id,
            quota_id,
            "tenant" if key_id is None else "key",
            key_id,
            amount,
        )
    whole, of_key = caps
    callers = (
        Caller(first.tenant_id, first.project_id, first.key_id, (whole,)),
        Caller(first.tenant_id, first.project_id, other_key, (whole, of_key)),
        Caller(second.tenant_id, second.project_id, second.key_id, ()),
    )
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    next_month = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    starts_at = next_month - timedelta(minutes=10)
    await moved_clock.install(superuser, starts_at)
    for name in (_BEGINNING, _BACKUP):
        await snapshots.make_room(superuser, name)
    await snapshots.save(superuser, _BEGINNING)
    return Cast(market, (first, second), callers, caps, starts_at)


@dataclass
class Stage:
    """Everything is blocking: the machine's rules are no coroutines."""

    cast: Cast
    cut: Cut
    database: Database
    cut_database: Database
    superuser: "asyncpg.Connection[Any]"
    loop: asyncio.AbstractEventLoop

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    def set_clock(self, at: datetime) -> None:
        self.run(moved_clock.set_to(self.superuser, at))

    def transact(self, work: Work[T], *, as_operator: bool = False, cut: bool = False) -> T:
        """In one transaction: as a region, unless it is the operator."""
        database = self.cut_database if cut else self.database
        return self.run(_within(database.operator() if as_operator else database.ingest(), work))

    def operating(self, work: Work[T]) -> T:
        return self.transact(work, as_operator=True)

    def balance(self, tenant_id: UUID) -> Balance:
        scope = TenantScope(TenantId(tenant_id))
        return self.run(_within(self.database.tenant(scope), lambda session: read_balance(session, scope)))

    def rows(self, statement: str, *arguments: object) -> list[Any]:
        return self.run(self.superuser.fetch(statement, *arguments))

    def epoch(self) -> str:
        return str(self.operating(read_epoch))

    def view(self, region: str) -> View:
        """What a gateway of this region knows after it has polled."""
        prices = self.operating(all_prices)
        listing = wire.Listing(
            name=self.cast.market.listing,
            publisher="maker",
            task="chat",
            currency="EUR",
            created=0,
            context_tokens=2048,
            template_tokens=64,
            default_output_tokens=512,
            max_output_tokens=1024,
            regions=(wire.ListingInRegion(region, tuple(prices[self.cast.market.listing_id, region])),),
        )
        return View(wire.Snapshot("v", "", 300.0, (), (listing,), ()), region)

    def begin(self) -> None:
        """Everything as it was before the first play."""
        self.run(snapshots.restore(self.superuser, _BEGINNING))
        self.set_clock(self.cast.starts_at)

    def back_up(self) -> None:
        self.run(snapshots.save(self.superuser, _BACKUP))

    def restore(self) -> None:
        """The database as it was when it was backed up; its clock went on."""
        self.run(snapshots.restore(self.superuser, _BACKUP))
        self.operating(renew_epoch)


async def _within(transaction: Any, work: Work[T]) -> T:
    async with transaction as session:
        return await work(session)
