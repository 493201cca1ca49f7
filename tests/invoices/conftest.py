"""A seller in France with customers who use, pay and are invoiced, and shorthands for what happens to them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from sqlalchemy import text, update

from chappe_billing.audit.service import verify_ledger
from chappe_billing.documents.content import DocumentContent
from chappe_billing.funds.service import post_to_tenant
from chappe_billing.invoice_runs.queries import Entry, list_log
from chappe_billing.invoice_runs.service import begin_run, work_on
from chappe_billing.invoices.queries import OpenInvoice, open_invoices
from chappe_billing.invoicing.numbering import Issued
from chappe_billing.invoicing.service import Draft, issue, preview
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, Rail, TransactionKind
from chappe_billing.ledger.service import new_transaction_id
from chappe_billing.usage.service import ingest
from chappe_kernel.ids import LegalEntityId, TenantId, new_id
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageBatch
from chappe_store.session import Database
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID, LegalEntity, Payments
from chappe_tenants.legal_entities.schemas import ChangeLegalEntity
from chappe_tenants.legal_entities.service import change_entity, get_entity
from chappe_tenants.organisations.models import Tenant
from tests.billing.conftest import Customer, MakeCustomer, Market, make_customer, market
from tests.conftest import DatabaseUrls, PostgresServer

__all__ = ["make_customer", "market"]

CENT = 10_000_000
EURO = 100 * CENT
_TIMES = {
    "ledger_transaction": ("created_at",),
    "usage_event": ("posted_at",),
    "usage_price_day": ("day::date",),
    "usage_minute": ("minute",),
    "usage_hour": ("hour",),
    "usage_day": ("day::date",),
    "usage_month": ("month",),
    "usage_spending": ("month",),
    "contract_term": ("first_month::date", "last_month::date"),
    "month_cut_off": ("month::date",),
    "cut_off_entry": ("month::date",),
    "invoice_run": ("month::date", "cut_off_at"),
    "invoice_cut": ("cut_off_at",),
    "legal_entity_payments": ("since",),
    "vat_rate": ("starts_on::date",),
}


@dataclass(frozen=True)
class Office:
    """Whoever sends the invoices."""

    market: Market
    urls: DatabaseUrls
    server: PostgresServer
    made: list[UUID] = field(default_factory=list)

    @property
    def database(self) -> Database:
        return self.market.database

    async def use(self, customer: Customer, tokens: int = 1_000_000, *, times: int = 1, **changes: object) -> int:
        """Output tokens at 210 nano each, and 7 for each request; what it cost."""
        grant = await self.market.ask(customer, times * (tokens * 210 + 7))
        events = [
            self.market.event(customer, grant.grant_id, counts=Counts(1, 0, tokens), hold_nano=10**15, **changes)
            for _ in range(times)
        ]
        async with self.database.ingest() as session:
            receipt = await ingest(session, region="fr-par", batch=UsageBatch("gw-1", tuple(events)))
        assert receipt.posted == times, receipt
        return sum(event.amount_nano for event in events)

    async def pay_in(
        self, customer: Customer, net_nano: int, tax_nano: int = 0, *, kind: TransactionKind = TransactionKind.TOP_UP
    ) -> UUID:
        """A top-up, with its tax or without any, or another kind of funding."""
        counter = {
            TransactionKind.TOP_UP: AccountKind.PAYMENT_CLEARING,
            TransactionKind.GOODWILL_CREDIT: AccountKind.PROMOTIONAL_CREDIT,
            TransactionKind.WRITE_OFF: AccountKind.WRITE_OFF,
        }[kind]
        lines = (
            (AccountKind.TENANT_FUNDS, net_nano),
            (AccountKind.VAT_PAYABLE, tax_nano),
            (counter, -net_nano - tax_nano),
        )
        return await self.post(customer, kind, lines)

    async def take_back(self, customer: Customer, payment: UUID, net_nano: int, tax_nano: int = 0) -> UUID:
        lines = (
            (AccountKind.TENANT_FUNDS, -net_nano),
            (AccountKind.VAT_PAYABLE, -tax_nano),
            (AccountKind.PAYMENT_CLEARING, net_nano + tax_nano),
        )
        return await self.post(customer, TransactionKind.CHARGEBACK, lines, reverses=payment)

    async def post(
        self,
        customer: Customer,
        kind: TransactionKind,
        lines: tuple[tuple[AccountKind, int], ...],
        reverses: UUID | None = None,
    ) -> UUID:
        posting = Posting(
            id=new_transaction_id(),
            kind=kind,
            tenant_id=customer.tenant_id,
            currency="EUR",
            lines=tuple(Line(_account(account, customer.tenant_id), amount) for account, amount in lines if amount),
            reference=str(new_id()),
            reason="a test",
            rail=Rail.CARD if kind is TransactionKind.TOP_UP else None,
            reverses=reverses,  # type: ignore[arg-type]
        )
        async with self.database.operator() as session:
            await post_to_tenant(session, posting)
        return posting.id

    async def issue(self, customer: Customer) -> list[Issued]:
        async with self.database.operator() as session:
            return await issue(session, customer.tenant_id)

    async def preview(self, customer: Customer) -> Draft:
        async with self.database.audit() as session:
            return await preview(session, customer.tenant_id)

    async def content(self, number: str) -> DocumentContent:
        found = await self.market.scalar("SELECT content FROM invoice WHERE number = :number", number=number)
        return msgspec.convert(found, DocumentContent)

    async def contents(self, customer: Customer) -> list[DocumentContent]:
        """Issued now."""
        return [await self.content(issued.number) for issued in await self.issue(customer)]

    async def open(self) -> list[OpenInvoice]:
        async with self.database.operator() as session:
            return await open_invoices(session)

    async def funds(self, customer: Customer) -> int:
        account = _account(AccountKind.TENANT_FUNDS, customer.tenant_id)
        return int(
            await self.market.scalar(
                "SELECT coalesce(sum(amount_nano), 0) FROM ledger_entry WHERE account_id = :id", id=account.id
            )
        )

    async def booked(self, kind: str) -> int:
        """On all accounts of this kind."""
        return int(
            await self.market.scalar(
                "SELECT coalesce(sum(e.amount_nano), 0) FROM ledger_entry e "
                "JOIN ledger_account a ON a.id = e.account_id WHERE a.kind = :kind",
                kind=kind,
            )
        )

    async def available(self, customer: Customer) -> int:
        return (await self.market.balance(customer)).available_nano

    async def allow_credit(self, customer: Customer, limit_nano: int) -> None:
        async with self.database.operator() as session:
            await session.execute(
                text("UPDATE budget SET credit_limit_nano = :limit WHERE tenant_id = :tenant"),
                {"limit": limit_nano, "tenant": customer.tenant_id},
            )

    async def change(self, customer: Customer, **values: object) -> None:
        async with self.database.operator() as session:
            await session.execute(update(Tenant).where(Tenant.id == customer.tenant_id).values(**values))

    async def collects(self, payments: Payments) -> None:
        async with self.database.operator() as session:
            entity = await get_entity(session, DEFAULT_LEGAL_ENTITY_ID, lock=True)
            await change_entity(session, entity, ChangeLegalEntity(payments=payments))

    async def month_passes(self) -> date:
        """Whatever happened so far happened a month earlier; last month's first day."""
        connection: asyncpg.Connection[Any] = await self.server.superuser(self.urls.name)
        try:
            await connection.execute("SET session_replication_role = replica; SET timezone = 'UTC'")
            for table, columns in _TIMES.items():
                for column in columns:
                    name, _, kind = column.partition("::")
                    # By way of another century: a key that is moved onto its neighbour's would be taken yet.
                    for change in ("+ interval '200 years'", "- interval '200 years 1 month'"):
                        moved = f"({name} {change})::{kind or 'timestamptz'}"
                        await connection.execute(f"UPDATE {table} SET {name} = {moved}")
            last: date = await connection.fetchval("SELECT (date_trunc('month', now()) - interval '1 month')::date")
        finally:
            await connection.close()
        return last

    async def run(self, month: date) -> UUID:
        """Begun, and worked on until nobody waits."""
        async with self.database.operator() as session:
            run = await begin_run(session, DEFAULT_LEGAL_ENTITY_ID, month)
        await work_on(self.database, run.id, run.cut_off_at)
        return run.id

    async def log(self, run_id: UUID) -> list[Entry]:
        async with self.database.audit() as session:
            return await list_log(session, run_id, limit=1000)

    async def verify(self) -> None:
        async with self.database.audit() as session:
            assert await verify_ledger(session) is None


def _account(kind: AccountKind, tenant_id: TenantId) -> Account:
    own = kind in {AccountKind.TENANT_FUNDS, AccountKind.RECEIVABLE}
    return Account(kind, "EUR", LegalEntityId(DEFAULT_LEGAL_ENTITY_ID), tenant_id=tenant_id if own else None)


@pytest.fixture
async def office(market: Market, database_urls: DatabaseUrls, postgres: PostgresServer) -> Office:
    async with market.database.operator() as session:
        await session.execute(
            update(LegalEntity)
            .where(LegalEntity.id == DEFAULT_LEGAL_ENTITY_ID)
            .values(country="FR", postal_code="75007", city="Paris", vat_number="FR40303265045")
        )
    return Office(market, database_urls, postgres)


MakeBuyer = Callable[..., Awaitable[Customer]]


@pytest.fixture
def buyer(office: Office, make_customer: MakeCustomer) -> MakeBuyer:
    """In France, without any money of its own but what is given."""

    async def make(gift_nano: int = 0, *, credit_nano: int = 0, country: str = "FR") -> Customer:
        made = await make_customer(gift_nano or 1)
        await office.change(made, country=country, postal_code="69001" if country == "FR" else None)
        if credit_nano:
            await office.allow_credit(made, credit_nano)
        return made

    return make
