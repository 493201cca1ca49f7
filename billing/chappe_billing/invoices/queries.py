"""SQL of issued invoices and of what is open of them."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Numeric,
    ScalarSelect,
    Select,
    SQLColumnExpression,
    cast,
    func,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.documents.content import DocumentKind
from chappe_billing.invoices.models import Invoice, InvoicePart, InvoiceSettlement
from chappe_billing.ledger.models import LedgerAccount, LedgerEntry, LedgerTransaction
from chappe_billing.ledger.postings import AccountKind, TransactionKind
from chappe_kernel.ids import LegalEntityId, TenantId
from chappe_store.arrays import is_among

_NANO_DIGITS = 9


class OpenInvoice(Struct, frozen=True):
    """An issued invoice and what is open of it. `tenant_id` is who has to pay it."""

    id: UUID
    number: str
    tenant_id: UUID
    legal_entity_id: UUID
    currency: str
    minor_digits: int
    issued_on: date
    due_on: date | None
    gross_nano: int
    open_nano: int


class OpenPart(Struct, frozen=True):
    """What is open of one tenant's part of an invoice. `transaction_id` is what was posted when it was issued, if
    there was anything to post."""

    tenant_id: TenantId
    transaction_id: UUID | None
    gross_nano: int
    open_nano: int


class InvoiceHead(Struct, frozen=True):
    """Whose an issued document is, without what it says."""

    id: UUID
    kind: DocumentKind
    number: str
    tenant_id: TenantId
    legal_entity_id: LegalEntityId
    currency: str
    minor_digits: int


async def find_head(session: AsyncSession, invoice_id: UUID) -> InvoiceHead | None:
    columns = (getattr(Invoice, name) for name in InvoiceHead.__struct_fields__)
    row = (await session.execute(select(*columns).where(Invoice.id == invoice_id))).mappings().one_or_none()
    return None if row is None else msgspec.convert(dict(row), InvoiceHead)


async def read_open_parts(session: AsyncSession, invoice_id: UUID) -> list[OpenPart]:
    """Of an invoice, in the order in which they are paid: by tenant. Under the budgets' locks they stay so."""
    gross = _in_nano(InvoicePart.gross_minor)
    statement = (
        select(
            InvoicePart.tenant_id,
            InvoicePart.transaction_id,
            gross.label("gross_nano"),
            (gross - _settled_of_part()).label("open_nano"),
        )
        .join(Invoice, Invoice.id == InvoicePart.invoice_id)
        .where(InvoicePart.invoice_id == invoice_id)
        .order_by(InvoicePart.tenant_id)
    )
    return [msgspec.convert(dict(row), OpenPart) for row in (await session.execute(statement)).mappings()]


async def find_open_invoice(session: AsyncSession, invoice_id: UUID) -> OpenInvoice | None:
    """Also one that is wholly settled; None for what is no invoice."""
    found = await _read_open(session, _invoices().where(Invoice.id == invoice_id))
    return found[0] if found else None


async def open_invoices(
    session: AsyncSession, *, tenant_id: UUID | None = None, limit: int = 1000, after: UUID | None = None
) -> list[OpenInvoice]:
    """Invoices of which anything is open, the oldest first by id; `after` is the last of the page before. As the
    operator of every tenant, as a tenant its own."""
    statement = _invoices().where(_open_nano() > 0).order_by(Invoice.id).limit(limit)
    if tenant_id is not None:
        statement = statement.where(Invoice.tenant_id == tenant_id)
    if after is not None:
        statement = statement.where(Invoice.id > after)
    return await _read_open(session, statement)


async def overdue_invoices(
    session: AsyncSession, on: date, *, tenant_id: UUID | None = None, limit: int = 1000, after: UUID | None = None
) -> list[OpenInvoice]:
    """Like `open_invoices`, of those alone that were due before `on`."""
    statement = _invoices().where(Invoice.due_on < on, _open_nano() > 0).order_by(Invoice.id).limit(limit)
    if tenant_id is not None:
        statement = statement.where(Invoice.tenant_id == tenant_id)
    if after is not None:
        statement = statement.where(Invoice.id > after)
    return await _read_open(session, statement)


async def insert_settlements(session: AsyncSession, settlements: Sequence[InvoiceSettlement]) -> None:
    """The database refuses to settle more than there is."""
    session.add_all(settlements)
    await session.flush()


async def list_part_tenants(session: AsyncSession, invoice_id: UUID) -> list[UUID]:
    return list(await session.scalars(select(InvoicePart.tenant_id).where(InvoicePart.invoice_id == invoice_id)))


async def find_paid_invoice(session: AsyncSession, transaction_id: UUID) -> UUID | None:
    """Which invoice a payment was for, though it may have been settled already."""
    of_invoice = select(InvoicePart.invoice_id).join(
        LedgerTransaction, LedgerTransaction.reverses == InvoicePart.transaction_id
    )
    settled = select(InvoiceSettlement.invoice_id).where(InvoiceSettlement.transaction_id == transaction_id)
    statement = settled.union_all(of_invoice.where(LedgerTransaction.id == transaction_id)).limit(1)
    found: UUID | None = await session.scalar(statement)
    return found


async def sum_settled_by(session: AsyncSession, transaction_ids: Sequence[UUID]) -> int:
    """What these transactions settled of invoices."""
    statement = select(func.coalesce(func.sum(InvoiceSettlement.amount_nano), 0)).where(
        is_among(InvoiceSettlement.transaction_id, transaction_ids)
    )
    return int((await session.execute(statement)).scalar_one())


class Named(Struct, frozen=True):
    """A transaction by its reference. `amount_nano` is what it did to one kind of account."""

    id: UUID
    kind: TransactionKind
    tenant_id: UUID | None
    reverses: UUID | None
    amount_nano: int


async def find_by_references(
    session: AsyncSession, legal_entity_id: UUID, references: Sequence[str], account: AccountKind
) -> list[Named]:
    """In the references' order."""
    amount = (
        select(cast(func.coalesce(func.sum(LedgerEntry.amount_nano), 0), BigInteger))
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(LedgerEntry.transaction_id == LedgerTransaction.id, LedgerAccount.kind == account)
        .scalar_subquery()
    )
    columns = (LedgerTransaction.id, LedgerTransaction.kind, LedgerTransaction.tenant_id, LedgerTransaction.reverses)
    statement = (
        select(*columns, amount.label("amount_nano"))
        .where(LedgerTransaction.legal_entity_id == legal_entity_id, LedgerTransaction.reference.in_(list(references)))
        .order_by(func.length(LedgerTransaction.reference), LedgerTransaction.reference)
    )
    return [msgspec.convert(dict(row), Named) for row in (await session.execute(statement)).mappings()]


async def sum_left(session: AsyncSession, transaction_id: UUID, account: AccountKind) -> int:
    """What a transaction did to one kind of account, together with all that names it."""
    statement = (
        select(func.coalesce(func.sum(LedgerEntry.amount_nano), 0))
        .join(LedgerTransaction, LedgerTransaction.id == LedgerEntry.transaction_id)
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(
            or_(LedgerTransaction.id == transaction_id, LedgerTransaction.reverses == transaction_id),
            LedgerAccount.kind == account,
        )
    )
    return int((await session.execute(statement)).scalar_one())


def _invoices() -> Select[tuple[object, ...]]:
    columns = ("id", "number", "tenant_id", "legal_entity_id", "currency", "minor_digits", "issued_on", "due_on")
    return select(
        *(getattr(Invoice, name) for name in columns),
        _in_nano(Invoice.gross_minor).label("gross_nano"),
        _open_nano().label("open_nano"),
    ).where(Invoice.kind == DocumentKind.INVOICE)


async def _read_open(session: AsyncSession, statement: Select[tuple[object, ...]]) -> list[OpenInvoice]:
    rows = (await session.execute(statement)).mappings()
    return msgspec.convert([dict(row) for row in rows], list[OpenInvoice])


def _open_nano() -> ColumnElement[int]:
    settled = (
        select(func.coalesce(func.sum(InvoiceSettlement.amount_nano), 0))
        .where(InvoiceSettlement.invoice_id == Invoice.id)
        .correlate(Invoice)
        .scalar_subquery()
    )
    return cast(_in_nano(Invoice.gross_minor) - settled, BigInteger)


def _settled_of_part() -> ScalarSelect[int]:
    return (
        select(cast(func.coalesce(func.sum(InvoiceSettlement.amount_nano), 0), BigInteger))
        .where(
            InvoiceSettlement.invoice_id == InvoicePart.invoice_id, InvoiceSettlement.tenant_id == InvoicePart.tenant_id
        )
        .correlate(InvoicePart)
        .scalar_subquery()
    )


def _in_nano(minor: SQLColumnExpression[int]) -> ColumnElement[int]:
    return cast(minor * func.power(cast(10, Numeric), _NANO_DIGITS - Invoice.minor_digits), BigInteger)
