"""A market whose postings go to a BSS."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from chappe_billing.discrepancies.queries import list_discrepancies
from chappe_billing.discrepancies.service import resolve_discrepancy
from chappe_billing.feed.folder import Folder, deliver
from chappe_billing.feed.manifest import Manifest
from chappe_billing.feed.service import close_batch
from chappe_kernel.ids import TENANT, encode_id
from chappe_kernel.rating import Counts, Outcome
from tests.billing.conftest import Customer, Market, customer, make_customer, market
from tests.feed.bss import FileConsumer, Sums

__all__ = ["customer", "make_customer", "market"]


@dataclass(frozen=True)
class Feed:
    """What the tests do with the feed."""

    market: Market
    path: Path

    async def close(self, *, max_records: int = 1000) -> list[Manifest]:
        """Close batches until nothing waits."""
        closed: list[Manifest] = []
        while True:
            async with self.market.database.operator() as session:
                manifest = await close_batch(session, max_records=max_records)
            if manifest is None:
                return closed
            closed.append(manifest)

    async def write(self) -> int:
        return await deliver(self.market.database, Folder(self.path))

    async def publish(self, *, max_records: int = 1000) -> list[Manifest]:
        closed = await self.close(max_records=max_records)
        await self.write()
        return closed

    def consumer(self) -> FileConsumer:
        return FileConsumer(self.path)

    async def owed(self) -> Sums:
        """What every tenant owes by the ledger: the other side of its accounts."""
        statement = text(
            "SELECT tenant_id, currency, -sum(amount_nano) FROM ledger_entry WHERE tenant_id IS NOT NULL "
            "GROUP BY 1, 2 HAVING sum(amount_nano) <> 0"
        )
        async with self.market.database.operator() as session:
            rows = (await session.execute(statement)).all()
        return Sums({(encode_id(TENANT, row[0]), row[1]): int(row[2]) for row in rows})

    async def use(self, customer: Customer, *counts: Counts, outcome: Outcome = Outcome.COMPLETED) -> None:
        """One batch of usage with these counts."""
        grant = await self.market.ask(customer, 1_000_000_000)
        events = [self.market.event(customer, grant.grant_id, counts=each, outcome=outcome) for each in counts]
        await self.market.ingest(*events)

    async def correct(self, customer: Customer) -> None:
        """A request whose engine said later that it made less, and the correction of its charge."""
        grant = await self.market.ask(customer, 1_000_000)
        charged = self.market.event(customer, grant.grant_id, counts=Counts(100, 0, 30), outcome=Outcome.DISCONNECTED)
        told = self.market.event(
            customer,
            grant.grant_id,
            request_id=charged.request_id,
            counts=Counts(100, 0, 10),
            outcome=Outcome.DISCONNECTED,
        )
        await self.market.ingest(charged)
        await self.market.ingest(told)
        async with self.market.database.operator() as session:
            (found,) = await list_discrepancies(session, resolved=False, limit=10)
            await resolve_discrepancy(session, found.id, reason="the engine made less", correct=True)


@pytest.fixture
def feed(market: Market, tmp_path: Path) -> Feed:
    return Feed(market, tmp_path / "feed")
