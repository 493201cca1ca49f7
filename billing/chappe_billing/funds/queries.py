"""SQL of what came into tenants' funds and went out of them. As the operator."""

from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, cast, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.ledger.models import LedgerAccount, LedgerEntry, LedgerTransaction
from chappe_billing.ledger.postings import Account, AccountKind, Line, TransactionKind
from chappe_kernel.ids import LegalEntityId, PublisherId, TenantId


class Posted(Struct, frozen=True):
    """A transaction with what it did to its tenant's funds."""

    id: UUID
    kind: TransactionKind
    tenant_id: UUID | None
    legal_entity_id: UUID
    currency: str
    reference: str | None
    reverses: UUID | None
    funds_nano: int


async def lock_reference(session: AsyncSession, legal_entity_id: UUID, reference: str) -> None:
    """Make those who use one reference take turns until the transaction ends. After the tenant's budget is locked."""
    key = f"ledger reference {legal_entity_id} {reference}"
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


async def find_by_reference(session: AsyncSession, legal_entity_id: UUID, reference: str) -> Posted | None:
    return await _find(
        session, LedgerTransaction.legal_entity_id == legal_entity_id, LedgerTransaction.reference == reference
    )


async def find_posted(session: AsyncSession, transaction_id: UUID) -> Posted | None:
    return await _find(session, LedgerTransaction.id == transaction_id)


async def _find(session: AsyncSession, *conditions: ColumnElement[bool]) -> Posted | None:
    funds = (
        select(cast(func.coalesce(func.sum(LedgerEntry.amount_nano), 0), BigInteger))
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(LedgerEntry.transaction_id == LedgerTransaction.id, LedgerAccount.kind == AccountKind.TENANT_FUNDS)
        .scalar_subquery()
    )
    columns = (
        *(LedgerTransaction.id, LedgerTransaction.kind, LedgerTransaction.tenant_id, LedgerTransaction.currency),
        *(LedgerTransaction.legal_entity_id, LedgerTransaction.reference, LedgerTransaction.reverses),
    )
    rows = await session.execute(select(*columns, funds.label("funds_nano")).where(*conditions))
    row = rows.mappings().one_or_none()
    return None if row is None else msgspec.convert(dict(row), Posted)


class Left(Struct, frozen=True):
    """What is left of a payment: in the tenant's funds, and of the tax that was paid with it."""

    net_nano: int
    tax_nano: int


async def read_left(session: AsyncSession, transaction_id: UUID) -> Left:
    """Of a payment, after what names it, and after what takes that back in turn."""
    names_it = select(LedgerTransaction.id).where(LedgerTransaction.reverses == transaction_id)
    statement = (
        select(
            *(
                cast(func.coalesce(func.sum(LedgerEntry.amount_nano).filter(LedgerAccount.kind == kind), 0), BigInteger)
                for kind in (AccountKind.TENANT_FUNDS, AccountKind.VAT_PAYABLE)
            )
        )
        .select_from(LedgerEntry)
        .join(LedgerTransaction, LedgerTransaction.id == LedgerEntry.transaction_id)
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(
            or_(
                LedgerTransaction.id == transaction_id,
                LedgerTransaction.reverses == transaction_id,
                LedgerTransaction.reverses.in_(names_it),
            )
        )
    )
    row = (await session.execute(statement)).one()
    return Left(row[0], row[1])


_USED = text("SELECT coalesce(sum(amount_nano), 0)::bigint FROM invoice_funding WHERE funding_id = :id")


async def read_used(session: AsyncSession, transaction_id: UUID) -> int:
    """What invoices have used of a payment and credit notes did not give back. Under the budget's lock it stays so."""
    return int((await session.execute(_USED, {"id": transaction_id})).scalar_one())


async def sum_invoiced(session: AsyncSession, tenant_id: TenantId) -> int:
    """What the tenant owes by invoices. Under the budget's lock it stays so."""
    statement = (
        select(func.coalesce(-func.sum(LedgerEntry.amount_nano), 0))
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(LedgerAccount.tenant_id == tenant_id, LedgerAccount.kind == AccountKind.RECEIVABLE)
    )
    return int((await session.execute(statement)).scalar_one())


_SETTLES = text("SELECT EXISTS (SELECT FROM invoice_settlement WHERE transaction_id = :id)")


async def settles_invoice(session: AsyncSession, transaction_id: UUID) -> bool:
    return bool(await session.scalar(_SETTLES, {"id": transaction_id}))


async def is_reversed(session: AsyncSession, transaction_id: UUID) -> bool:
    """Whether anything takes it back, in part or as a whole."""
    statement = select(LedgerTransaction.id).where(LedgerTransaction.reverses == transaction_id).limit(1)
    return await session.scalar(statement) is not None


async def sum_paid_in(session: AsyncSession, tenant_id: TenantId, *, taxed: bool) -> int:
    """What came into the tenant's funds from its bank, less what went back there: with tax, or without any."""

    def has(*kinds: AccountKind) -> ColumnElement[bool]:
        entries = select(LedgerEntry.line).join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        return entries.where(LedgerEntry.transaction_id == LedgerTransaction.id, LedgerAccount.kind.in_(kinds)).exists()

    has_tax = has(AccountKind.VAT_PAYABLE)
    statement = (
        select(func.coalesce(func.sum(LedgerEntry.amount_nano), 0))
        .join(LedgerTransaction, LedgerTransaction.id == LedgerEntry.transaction_id)
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(
            LedgerTransaction.tenant_id == tenant_id,
            LedgerTransaction.kind != TransactionKind.USAGE,
            LedgerAccount.kind == AccountKind.TENANT_FUNDS,
            has(AccountKind.PAYMENT_CLEARING, AccountKind.SUSPENSE),
            has_tax if taxed else ~has_tax,
        )
    )
    return int((await session.execute(statement)).scalar_one())


async def read_lines(session: AsyncSession, transaction_id: UUID) -> tuple[Line, ...]:
    """As they were posted."""
    statement = (
        select(LedgerAccount, LedgerEntry.amount_nano)
        .join(LedgerEntry, LedgerEntry.account_id == LedgerAccount.id)
        .where(LedgerEntry.transaction_id == transaction_id)
        .order_by(LedgerEntry.line)
    )
    return tuple(Line(_account(row), amount_nano) for row, amount_nano in await session.execute(statement))


def _account(row: LedgerAccount) -> Account:
    return Account(
        kind=AccountKind(row.kind),
        currency=row.currency,
        legal_entity_id=LegalEntityId(row.legal_entity_id),
        tenant_id=None if row.tenant_id is None else TenantId(row.tenant_id),
        region=row.region,
        publisher_id=None if row.publisher_id is None else PublisherId(row.publisher_id),
    )
