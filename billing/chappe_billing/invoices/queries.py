"""SQL of issued invoices and of what is open of them."""

from collections.abc import Collection, Sequence
from datetime import date, datetime
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
    case,
    cast,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.documents.content import DocumentContent, DocumentKind
from chappe_billing.invoices.models import Invoice, InvoiceOpen, InvoicePart, InvoiceSettlement, SettlementKind
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
    return await _read_open(session, _some_open(tenant_id, limit, after))


async def overdue_invoices(
    session: AsyncSession, on: date, *, tenant_id: UUID | None = None, limit: int = 1000, after: UUID | None = None
) -> list[OpenInvoice]:
    """Like `open_invoices`, of those alone that were due before `on`."""
    return await _read_open(session, _some_open(tenant_id, limit, after).where(InvoiceOpen.due_on < on))


async def open_invoices_of(session: AsyncSession, tenant_ids: Collection[UUID]) -> list[OpenInvoice]:
    """All that have to be paid by any of these, the oldest first by id. As the operator."""
    statement = _invoices().where(InvoiceOpen.open_nano > 0, is_among(InvoiceOpen.tenant_id, tenant_ids))
    return await _read_open(session, statement.order_by(InvoiceOpen.invoice_id))


class Debt(Struct, frozen=True):
    """A tenant with open invoices, and the one of them that was or is due first."""

    tenant_id: UUID
    invoice_id: UUID


_DEBTS = text(
    """
    SELECT d.tenant_id, d.invoice_id
    FROM (
        SELECT DISTINCT ON (tenant_id) tenant_id, coalesce(due_on, date 'infinity') AS due_on, invoice_id
        FROM invoice_open WHERE open_nano > 0 ORDER BY tenant_id, due_on, invoice_id
    ) d
    WHERE CAST(:after AS uuid) IS NULL OR (d.due_on, d.tenant_id) > (
        SELECT coalesce(a.due_on, date 'infinity'), a.tenant_id FROM invoice_open a WHERE a.invoice_id = :after
    )
    ORDER BY d.due_on, d.tenant_id LIMIT :limit
    """
)


async def list_debts(session: AsyncSession, *, limit: int, after: UUID | None = None) -> list[Debt]:
    """By when the first open invoice is due, those without such a day at the end; `after` is the invoice of the last
    of the page before, whether it was paid since or not. As the operator."""
    return [Debt(*row) for row in await session.execute(_DEBTS, {"limit": limit, "after": after})]


class ListedDocument(Struct, frozen=True):
    """An issued document without its content. What is open of it, and what was written off, is of an invoice alone, and
    0 of others."""

    id: UUID
    kind: DocumentKind
    number: str
    tenant_id: UUID
    legal_entity_id: UUID
    currency: str
    minor_digits: int
    issued_on: date
    due_on: date | None
    period_from: date | None
    period_to: date | None
    net_minor: int
    tax_minor: int
    gross_minor: int
    preceding_id: UUID | None
    reason: str | None
    created_at: datetime
    open_nano: int
    written_off_nano: int


async def list_documents(
    session: AsyncSession,
    *,
    tenant_id: UUID | None,
    limit: int,
    before: UUID | None = None,
    preceding_id: UUID | None = None,
) -> list[ListedDocument]:
    """Newest first; a tenant's own, or as the operator everybody's. With `preceding_id` those that take that back."""
    statement = _documents().order_by(Invoice.id.desc()).limit(limit)
    if tenant_id is not None:
        statement = statement.where(Invoice.tenant_id == tenant_id)
    if before is not None:
        statement = statement.where(Invoice.id < before)
    if preceding_id is not None:
        statement = statement.where(Invoice.preceding_id == preceding_id)
    rows = (await session.execute(statement)).mappings()
    return msgspec.convert([dict(row) for row in rows], list[ListedDocument])


async def find_document(
    session: AsyncSession, *, tenant_id: UUID | None, name: UUID | str
) -> tuple[ListedDocument, DocumentContent] | None:
    """By its id or its number, with what it says. None for another tenant's."""
    statement = _documents().add_columns(Invoice.content)
    statement = statement.where(Invoice.number == name if isinstance(name, str) else Invoice.id == name)
    if tenant_id is not None:
        statement = statement.where(Invoice.tenant_id == tenant_id)
    row = (await session.execute(statement.limit(1))).mappings().one_or_none()
    if row is None:
        return None
    values = dict(row)
    content = msgspec.convert(values.pop("content"), DocumentContent)
    return msgspec.convert(values, ListedDocument), content


def _documents() -> Select[tuple[object, ...]]:
    names = [name for name in ListedDocument.__struct_fields__ if name not in {"open_nano", "written_off_nano"}]
    return select(
        *(getattr(Invoice, name) for name in names),
        open_nano_column().label("open_nano"),
        _written_off_nano().label("written_off_nano"),
    )


class Unbilled(Struct, frozen=True):
    """What a tenant was charged, without tax, and stands on no invoice yet."""

    tenant_id: UUID
    name: str
    legal_entity_id: UUID
    currency: str
    amount_nano: int
    since: datetime


# What usage took is in the budget's row, what was invoiced of it and of the rest in the cuts': `chappe ledger verify`
# compares both with the ledger. What contracts and corrections moved is little, and is read there. So is what another
# system billed, of a legal entity that has changed how it collects; one that never collected here is left out.
_UNBILLED = """
    SELECT b.tenant_id, n.name, n.legal_entity_id, n.currency, (
               b.posted_nano - coalesce(o.moved, 0) - coalesce(c.charged, 0) + coalesce(x.moved, 0)
           )::bigint AS amount_nano
    FROM budget b
    JOIN tenant n ON n.id = b.tenant_id
    LEFT JOIN LATERAL (
        SELECT sum(e.amount_nano) AS moved
        FROM ledger_transaction t
        JOIN ledger_entry e ON e.transaction_id = t.id AND e.tenant_id = t.tenant_id
        JOIN ledger_account a ON a.id = e.account_id AND a.kind = 'tenant_funds'
        LEFT JOIN ledger_transaction r ON r.id = t.reverses AND t.kind = 'reversal'
        WHERE t.tenant_id = b.tenant_id AND t.kind <> 'usage' AND coalesce(r.kind, t.kind) IN (
            'usage_correction', 'volume_discount', 'minimum_fee', 'commitment_fee'
        )
    ) o ON true
    LEFT JOIN LATERAL (
        SELECT sum(x.charged_nano) AS charged FROM invoice_cut x WHERE x.tenant_id = b.tenant_id
    ) c ON true
    LEFT JOIN LATERAL (
        SELECT sum(e.amount_nano) AS moved
        FROM ledger_transaction t
        JOIN ledger_entry e ON e.transaction_id = t.id AND e.tenant_id = t.tenant_id
        JOIN ledger_account a ON a.id = e.account_id AND a.kind = 'tenant_funds'
        LEFT JOIN ledger_transaction r ON r.id = t.reverses AND t.kind = 'reversal'
        LEFT JOIN cut_off_entry m ON m.tenant_id = t.tenant_id AND m.transaction_id = t.id
        WHERE EXISTS (
                SELECT FROM legal_entity_payments h
                WHERE h.legal_entity_id = n.legal_entity_id AND h.payments = 'external'
            )
            AND t.tenant_id = b.tenant_id AND coalesce(r.kind, t.kind) IN (
                'usage', 'usage_correction', 'volume_discount', 'minimum_fee', 'commitment_fee'
            )
            AND is_billed_elsewhere(t.legal_entity_id, t.created_at, m.month)
            AND NOT EXISTS (SELECT FROM invoice_transaction i WHERE i.transaction_id = t.id)
    ) x ON true
    WHERE EXISTS (
        SELECT FROM legal_entity_payments h WHERE h.legal_entity_id = n.legal_entity_id AND h.payments <> 'external'
    )
"""
# When it began is when the last invoice's cut-off was, or else the first charge.
_LIST_UNBILLED = text(
    f"""
    SELECT u.tenant_id, u.name, u.legal_entity_id, u.currency, u.amount_nano, s.since
    FROM (
        SELECT u.tenant_id, u.name, u.legal_entity_id, u.currency, u.amount_nano
        FROM ({_UNBILLED}) u
        WHERE u.amount_nano <> 0 AND u.tenant_id > coalesce(CAST(:after AS uuid), '{UUID(int=0)}')
        ORDER BY u.tenant_id LIMIT :limit
    ) u
    CROSS JOIN LATERAL (
        SELECT coalesce(
            (SELECT max(c.cut_off_at) FROM invoice_cut c WHERE c.tenant_id = u.tenant_id),
            (SELECT t.created_at FROM ledger_transaction t
             WHERE t.tenant_id = u.tenant_id
               AND t.kind IN ('usage', 'usage_correction', 'volume_discount', 'minimum_fee', 'commitment_fee')
               AND NOT is_billed_elsewhere(t.legal_entity_id, t.created_at, NULL)
             ORDER BY t.id LIMIT 1)
        ) AS since
    ) s
    ORDER BY u.tenant_id
    """  # noqa: S608  # of our own
)
_UNBILLED_OF = text(f"SELECT u.amount_nano FROM ({_UNBILLED}) u WHERE u.tenant_id = :tenant_id")  # noqa: S608  # the same


async def list_unbilled(session: AsyncSession, *, limit: int, after: UUID | None = None) -> list[Unbilled]:
    """By tenant; `after` is the last of the page before. As the operator."""
    rows = (await session.execute(_LIST_UNBILLED, {"limit": limit, "after": after})).mappings()
    return msgspec.convert([dict(row) for row in rows], list[Unbilled])


async def read_unbilled(session: AsyncSession, tenant_id: UUID) -> int:
    """What the tenant was charged and stands on no invoice yet, in nano and without tax. As the operator."""
    return int(await session.scalar(_UNBILLED_OF, {"tenant_id": tenant_id}) or 0)


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


class LeftOfPart(Struct, frozen=True):
    """Of one tenant's part of an invoice, after its credit notes: what it comes to, and the tax of that."""

    gross_nano: int
    tax_nano: int


async def read_left_of_parts(session: AsyncSession, invoice_id: UUID) -> dict[UUID, LeftOfPart]:
    """By tenant. Under the budgets' locks they stay so."""
    sign = case((Invoice.id == invoice_id, 1), else_=-1)
    gross, tax = (
        cast(func.sum(sign * _in_nano(column)), BigInteger)
        for column in (InvoicePart.gross_minor, InvoicePart.tax_minor)
    )
    statement = (
        select(InvoicePart.tenant_id, gross, tax)
        .join(Invoice, Invoice.id == InvoicePart.invoice_id)
        .where(or_(Invoice.id == invoice_id, Invoice.preceding_id == invoice_id))
        .group_by(InvoicePart.tenant_id)
    )
    return {tenant_id: LeftOfPart(*left) for tenant_id, *left in await session.execute(statement)}


async def has_tax(session: AsyncSession, invoice_id: UUID) -> bool:
    return bool(await session.scalar(select(Invoice.tax_minor > 0).where(Invoice.id == invoice_id)))


async def find_given_up(session: AsyncSession, transaction_id: UUID) -> UUID | None:
    """The invoice of which a transaction gave something up; None for one that gave up none."""
    statement = select(InvoiceSettlement.invoice_id).where(
        InvoiceSettlement.transaction_id == transaction_id, InvoiceSettlement.kind == SettlementKind.WRITE_OFF
    )
    found: UUID | None = await session.scalar(statement)
    return found


async def sum_on(session: AsyncSession, transaction_ids: Sequence[UUID], account: AccountKind) -> int:
    """What these transactions did to accounts of one kind."""
    statement = (
        select(func.coalesce(func.sum(LedgerEntry.amount_nano), 0))
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(is_among(LedgerEntry.transaction_id, transaction_ids), LedgerAccount.kind == account)
    )
    return int((await session.execute(statement)).scalar_one())


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
        InvoiceOpen.open_nano,
    ).join(InvoiceOpen, InvoiceOpen.invoice_id == Invoice.id)


def _some_open(tenant_id: UUID | None, limit: int, after: UUID | None) -> Select[tuple[object, ...]]:
    statement = _invoices().where(InvoiceOpen.open_nano > 0).order_by(InvoiceOpen.invoice_id).limit(limit)
    if tenant_id is not None:
        statement = statement.where(InvoiceOpen.tenant_id == tenant_id)
    return statement if after is None else statement.where(InvoiceOpen.invoice_id > after)


async def _read_open(session: AsyncSession, statement: Select[tuple[object, ...]]) -> list[OpenInvoice]:
    rows = (await session.execute(statement)).mappings()
    return msgspec.convert([dict(row) for row in rows], list[OpenInvoice])


def open_nano_column() -> ColumnElement[int]:
    """An invoice's, in a statement over documents of every kind."""
    found = select(InvoiceOpen.open_nano).where(InvoiceOpen.invoice_id == Invoice.id).correlate(Invoice)
    return func.coalesce(found.scalar_subquery(), 0)


def _written_off_nano() -> ColumnElement[int]:
    """Of the `Invoice` of the statement around it, less what was taken back of that."""
    given_up = (SettlementKind.WRITE_OFF, SettlementKind.RECLAIMED)
    return (
        select(cast(func.coalesce(func.sum(InvoiceSettlement.amount_nano), 0), BigInteger))
        .where(InvoiceSettlement.invoice_id == Invoice.id, InvoiceSettlement.kind.in_(given_up))
        .correlate(Invoice)
        .scalar_subquery()
    )


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
