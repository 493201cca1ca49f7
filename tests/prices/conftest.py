"""The billing tests' market, and shorthands for what an operator does with its prices."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from chappe_billing.price_drafts.comparing import DraftLine
from chappe_billing.price_drafts.service import Draft, create_draft, get_draft, publish_draft
from chappe_billing.price_simulations.service import simulate_for_publication
from chappe_billing.prices.queries import ListedPrice, find_prices
from chappe_billing.prices.service import publish_discount, publish_price, revert_price
from chappe_kernel.ids import PriceVersionId, TenantId
from chappe_kernel.rating import Price
from tests.billing.conftest import Market, customer, make_customer, market
from tests.conftest import DatabaseUrls, PostgresServer

__all__ = ["customer", "make_customer", "market"]

_TIMES = {
    "price_version": ("starts_at",),
    "usage_event": ("posted_at",),
    "usage_price_day": ("day::date",),
    "usage_minute": ("minute",),
    "usage_hour": ("hour",),
    "usage_day": ("day::date",),
    "usage_month": ("month",),
    "usage_spending": ("month",),
    "ledger_transaction": ("created_at",),
    "contract_term": ("first_month::date", "last_month::date"),
    "month_cut_off": ("month::date",),
    "cut_off_entry": ("month::date",),
}
NOW_IS_ENOUGH = timedelta(0)


@dataclass(frozen=True)
class Operator:
    """Whoever manages the prices of the market's listing."""

    market: Market
    urls: DatabaseUrls
    server: PostgresServer

    def line(self, price: Price | None = None, discount: int | None = None, region: str = "fr-par") -> DraftLine:
        return DraftLine(self.market.listing_id, self.market.listing, region, "EUR", price, discount)

    async def draft(self, *lines: DraftLine, tenant_id: TenantId | None = None) -> Draft:
        async with self.market.database.operator() as session:
            return await create_draft(session, title="New prices", tenant_id=tenant_id, lines=lines)

    async def simulated(self, *lines: DraftLine, tenant_id: TenantId | None = None) -> Draft:
        draft = await self.draft(*lines, tenant_id=tenant_id)
        async with self.market.database.operator() as session:
            await simulate_for_publication(session, draft)
            return await get_draft(session, draft.row.id)

    async def publish(
        self, *lines: DraftLine, starts_at: datetime | None = None, tenant_id: TenantId | None = None
    ) -> list[PriceVersionId]:
        """Through a draft, in force at once unless a start is given."""
        draft = await self.simulated(*lines, tenant_id=tenant_id)
        async with self.market.database.operator() as session:
            return await publish_draft(session, draft, starts_at=starts_at, notice=NOW_IS_ENOUGH)

    async def list_price(self, price: Price, starts_at: datetime | None = None) -> PriceVersionId:
        async with self.market.database.operator() as session:
            return await publish_price(
                session,
                listing_id=self.market.listing_id,
                region="fr-par",
                currency="EUR",
                price=price,
                starts_at=starts_at,
                notice=NOW_IS_ENOUGH,
            )

    async def discount(
        self, tenant_id: TenantId | None, basis_points: int, starts_at: datetime | None = None
    ) -> PriceVersionId:
        async with self.market.database.operator() as session:
            return await publish_discount(
                session,
                listing_id=self.market.listing_id,
                region="fr-par",
                currency="EUR",
                tenant_id=tenant_id,
                basis_points=basis_points,
                starts_at=starts_at,
                notice=NOW_IS_ENOUGH,
            )

    async def revert(self, version_id: UUID, reason: str = "a digit too many") -> PriceVersionId:
        async with self.market.database.operator() as session:
            return PriceVersionId((await revert_price(session, version_id, reason=reason)).id)

    async def version(self, version_id: UUID) -> ListedPrice:
        async with self.market.database.operator() as session:
            return (await find_prices(session, [version_id]))[version_id]

    async def move_history(self, *, months: int = 0, days: int = 0) -> None:
        """All that was published and posted so far happened so much earlier; with days alone, within the month or not.
        By the test's superuser."""
        connection: asyncpg.Connection[asyncpg.Record] = await self.server.superuser(self.urls.name)
        try:
            await connection.execute("SET session_replication_role = replica; SET timezone = 'UTC'")
            for table, columns in _TIMES.items():
                if days and table not in {"price_version", "usage_event", "usage_price_day"}:
                    continue
                for column in columns:
                    name, _, kind = column.partition("::")
                    earlier = f"({name} - make_interval(months => $1, days => $2))::{kind or 'timestamptz'}"
                    await connection.execute(f"UPDATE {table} SET {name} = {earlier}", months, days)
        finally:
            await connection.close()


@pytest.fixture
def operator(market: Market, database_urls: DatabaseUrls, postgres: PostgresServer) -> Operator:
    return Operator(market, database_urls, postgres)
