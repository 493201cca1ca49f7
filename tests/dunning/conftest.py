"""A tenant with invoices as they are stored; payments are the real ones."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from chappe_billing.budgets import queries as budgets
from chappe_billing.invoices.service import settle_invoice
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, Rail, TransactionKind
from chappe_billing.ledger.service import new_transaction_id, post
from chappe_kernel.ids import TenantId, new_id
from chappe_store.session import Database, TenantScope
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.organisations.service import get_organisation
from tests.control.conftest import owner_sql
from tests.webhooks.conftest import make_tenant

__all__ = ["owner_sql"]

GROSS_NANO = 120 * 10**9


class Customer:
    """Due days are counted from today; to let time pass is to say that an invoice was due earlier."""

    def __init__(self, database: Database, tenant_id: TenantId, owner_sql: Any) -> None:
        self.database, self.tenant_id, self.sql = database, tenant_id, owner_sql

    async def invoice(self, due_days_ago: int) -> UUID:
        invoice_id, cut_id, number = new_id(), new_id(), f"T-{new_id()}"
        (row,) = await self.sql("SELECT CAST(now() AS date)")
        due: date = row[0] - timedelta(days=due_days_ago)
        await self.sql(
            "INSERT INTO invoice (id, kind, legal_entity_id, tenant_id, currency, minor_digits, series, ordinal, "
            "number, issued_on, due_on, cut_off_at, net_minor, tax_minor, gross_minor, content) "
            "SELECT $1, 'invoice', legal_entity_id, id, currency, 2, $4::text, 1, $4::text, $5::date - 30, $5, now(), "
            "10000, 2000, 12000, '{}' FROM tenant WHERE id = $2 AND $3::uuid IS NOT NULL",
            *(invoice_id, self.tenant_id, cut_id, number, due),
        )
        await self.sql(
            "INSERT INTO invoice_cut (id, tenant_id, cut_off_at, charged_nano) VALUES ($1, $2, now(), 100000000000)",
            *(cut_id, self.tenant_id),
        )
        posted = await self._post_invoice()
        await self.sql(
            "INSERT INTO invoice_part (invoice_id, tenant_id, cut_id, transaction_id, charged_nano, rounding_nano, "
            "lines_minor, gifts_minor, advances_minor, net_minor, tax_minor, gross_minor) "
            "VALUES ($1, $2, $3, $4, 100000000000, 0, 10000, 0, 0, 10000, 2000, 12000)",
            *(invoice_id, self.tenant_id, cut_id, posted),
        )
        return invoice_id

    async def _post_invoice(self) -> UUID:
        def account(kind: AccountKind, tenant_id: TenantId | None = None) -> Account:
            return Account(kind, "EUR", DEFAULT_LEGAL_ENTITY_ID, tenant_id)

        lines = (
            Line(account(AccountKind.RECEIVABLE, self.tenant_id), -GROSS_NANO),
            Line(account(AccountKind.TENANT_FUNDS, self.tenant_id), 100 * 10**9),
            Line(account(AccountKind.VAT_PAYABLE), 20 * 10**9),
        )
        posting = Posting(new_transaction_id(), TransactionKind.INVOICE, self.tenant_id, "EUR", lines)
        async with self.database.operator() as session:
            await post(session, [posting])
            await budgets.add_funds(session, self.tenant_id, -20 * 10**9)
        return posting.id

    async def pay(self, invoice_id: UUID, amount_nano: int = GROSS_NANO) -> None:
        async with self.database.operator() as session:
            await settle_invoice(
                session, invoice_id, amount_nano=amount_nano, reference=f"p {new_id()}", rail=Rail.BANK_TRANSFER
            )

    async def told_long_ago(self, invoice_id: UUID, level: int = 3, days: int = 40) -> None:
        """As if the notice had been sent then."""
        await self.sql(
            "INSERT INTO dunning_step (tenant_id, invoice_id, kind, level, open_nano, currency, number, due_on, "
            "taken_at) VALUES ($1, $2, 'notice', $3::bigint, 1, 'EUR', 'x', CAST(now() AS date), now() - $4::interval)",
            *(self.tenant_id, invoice_id, level, timedelta(days=days)),
        )

    async def steps(self) -> list[tuple[str, int]]:
        rows = await self.sql(
            "SELECT kind, level FROM dunning_step WHERE tenant_id = $1 AND taken_at > now() - interval '1 hour' "
            "ORDER BY kind, level",
            self.tenant_id,
        )
        return [tuple(row) for row in rows]

    async def outbox(self, topic: str = "notice") -> list[str]:
        async with self.database.operator() as session:
            query = text("SELECT coalesce(payload ->> 'kind', 'none') FROM outbox WHERE topic = :topic ORDER BY id")
            return list(await session.scalars(query, {"topic": topic}))

    async def state(self) -> tuple[str, str | None]:
        async with self.database.operator() as session:
            tenant = await get_organisation(session, TenantScope(self.tenant_id))
        return tenant.state, tenant.state_reason


@pytest.fixture
async def customer(database: Database, owner_sql: Any) -> Customer:
    scope = await make_tenant(database)
    async with database.operator() as session:
        await budgets.open_budget(session, scope.tenant_id, "EUR")
    return Customer(database, scope.tenant_id, owner_sql)
