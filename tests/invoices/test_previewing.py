"""A preview is read from sums by day, and is what issuing makes of every event: whatever happened, and on which day."""

from collections.abc import Mapping
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from sqlalchemy import text

from chappe_billing.documents.content import DocumentContent
from chappe_billing.invoices.queries import list_unbilled, read_unbilled
from chappe_billing.invoicing.service import issue, preview
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts, Outcome
from chappe_tenants.api_keys.models import ApiKey
from chappe_tenants.projects.models import Project
from tests.billing.conftest import Customer
from tests.invoices.conftest import CENT, EURO, MakeBuyer, Office

_ACTS = 20
_TIMES = {
    "ledger_transaction": "created_at",
    "usage_event": "posted_at",
    "usage_price_day": "day",
    "invoice_cut": "cut_off_at",
}
_CHARGED = """
    SELECT coalesce(-sum(e.amount_nano), 0)::bigint FROM ledger_transaction t
    JOIN ledger_entry e ON e.transaction_id = t.id AND e.tenant_id = t.tenant_id
    WHERE t.tenant_id = :tenant AND t.kind = 'usage'
      AND NOT EXISTS (SELECT FROM invoice_transaction x WHERE x.transaction_id = t.id)
"""


class Business:
    """What happens to one customer, by the dice."""

    def __init__(self, office: Office, customer: Customer, keys: Mapping[UUID, UUID], dice: Random) -> None:
        """`keys`: each key's project."""
        self.office, self.customer, self.keys, self.dice = office, customer, keys, dice

    async def act(self) -> None:
        acts = (self.use, self.use, self.use, self.overrun, self.pass_days, self.pass_days, self.top_up, self.invoice)
        await self.dice.choice(acts)()

    async def use(self, grant_id: UUID | None = None, completions: tuple[int, ...] = (0, 1, 90_000)) -> None:
        """Some of it free, and some that failed."""
        market, dice = self.office.market, self.dice
        if grant_id is None:
            grant_id = (await market.ask(self.customer, EURO)).grant_id
        events = [
            market.event(
                self.customer,
                grant_id,
                key_id=(key_id := dice.choice(list(self.keys))),
                project_id=self.keys[key_id],
                counts=Counts(prompt := dice.randrange(100), dice.randrange(prompt + 1), dice.choice(completions)),
                outcome=dice.choice(tuple(Outcome)),
                hold_nano=10**12,
            )
            for _ in range(dice.randrange(1, 5))
        ]
        assert (await market.ingest(*events)).posted == len(events)

    async def overrun(self) -> None:
        """More than there is: the rest is written off, and with it what comes under the same grant after it."""
        grant = await self.office.market.ask(self.customer, CENT)
        async with self.office.database.operator() as session:
            credit = text("UPDATE budget SET credit_limit_nano = :nano WHERE tenant_id = :tenant")
            await session.execute(credit, {"nano": 0, "tenant": self.customer.tenant_id})
        for _ in range(3):
            await self.use(grant.grant_id, (90_000,))
        await self.office.allow_credit(self.customer, 1000 * EURO)

    async def pass_days(self) -> None:
        connection: asyncpg.Connection[Any] = await self.office.server.superuser(self.office.urls.name)
        try:
            await connection.execute("SET session_replication_role = replica; SET timezone = 'UTC'")
            for table, column in _TIMES.items():
                # By way of another century: a key that is moved onto its neighbour's would be taken yet.
                for days in (36_500, -36_501):
                    kind = "date" if column == "day" else "timestamptz"
                    moved = f"({column} + interval '{days} days')::{kind}"
                    await connection.execute(f"UPDATE {table} SET {column} = {moved}")
        finally:
            await connection.close()

    async def top_up(self) -> None:
        await self.office.pay_in(self.customer, self.dice.randrange(1, 50) * CENT)

    async def invoice(self) -> None:
        await self.office.issue(self.customer)

    async def would_be_issued(self) -> list[DocumentContent]:
        """Really issued, in a transaction that is taken back."""
        async with self.office.database.operator() as session:
            issued = [one.id for one in await issue(session, self.customer.tenant_id)]
            statement = text("SELECT content FROM invoice WHERE id = :id")
            found = [await session.scalar(statement, {"id": one}) for one in issued]
            await session.rollback()
        return [msgspec.structs.replace(msgspec.convert(one, DocumentContent), number="") for one in found]


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_preview_is_what_issuing_makes(office: Office, buyer: MakeBuyer, seed: int) -> None:
    customer = await buyer(CENT, credit_nano=1000 * EURO)
    keys = {customer.key_id: customer.project_id, **await _second_key(office, customer)}
    business = Business(office, customer, keys, Random(seed))  # noqa: S311  # a test's dice
    await business.overrun()
    previewed = 0
    for _ in range(_ACTS):
        await business.act()
        async with office.database.audit() as session:
            draft = await preview(session, customer.tenant_id)
            unbilled = await read_unbilled(session, customer.tenant_id)
            listed = {row.tenant_id: row.amount_nano for row in await list_unbilled(session, limit=10)}
        assert draft.contents() == await business.would_be_issued()
        assert not any(draft.posted.values()), "nothing was read transaction by transaction"
        assert unbilled == await office.market.scalar(_CHARGED, tenant=customer.tenant_id)
        assert listed == ({customer.tenant_id: unbilled} if unbilled else {})
        previewed += len(draft.invoices)
    assert previewed > _ACTS // 3
    lost = (
        "SELECT count(*) FROM usage_event e WHERE written_off_nano > 0 AND NOT EXISTS ("
        "SELECT FROM ledger_entry f WHERE f.transaction_id = e.transaction_id AND f.tenant_id = e.tenant_id)"
    )
    assert await office.market.scalar(lost), "some transactions took nothing"


async def _second_key(office: Office, customer: Customer) -> dict[UUID, UUID]:
    key_id, project_id = new_id(), new_id()
    async with office.database.operator() as session:
        session.add(Project(tenant_id=customer.tenant_id, id=project_id, name="Second"))
        await session.flush()
        session.add(
            ApiKey(
                tenant_id=customer.tenant_id,
                id=key_id,
                project_id=project_id,
                kind="inference",
                name="key",
                prefix="ck_itest",
                pepper_version=1,
                digest=key_id.bytes * 2,
            )
        )
    return {key_id: project_id}
