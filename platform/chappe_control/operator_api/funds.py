"""Tenants' funds, for the operator: what came in, what went out, and taking either back."""

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from litestar import get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.balance.queries import Balance, read_balance
from chappe_billing.funds.once import MAX_REASON_LENGTH, MAX_REFERENCE_LENGTH, Moved
from chappe_billing.funds.queries import settles_invoice
from chappe_billing.funds.service import Movement, move_funds, reverse
from chappe_billing.invoices.service import take_back_write_off
from chappe_billing.ledger.postings import Rail, TransactionKind
from chappe_billing.ledger.queries import Statement, find_own_transaction, list_transactions
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.operator_api.performing import perform
from chappe_control.operator_api.tenants import TenantPath
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.balance import BalanceView, show_balance
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import MAX_ID_LENGTH, id_in_body, id_in_path
from chappe_control.public.transactions import TransactionId
from chappe_control.state import Given
from chappe_kernel.ids import LEDGER_TRANSACTION, TENANT, LedgerTransactionId, TenantId, encode_id
from chappe_kernel.money import format_nano, parse_nano
from chappe_store.session import TenantScope

_TAG = "Funds"

TransactionPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The transaction's id, `txn_…`.")]
Reference = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_REFERENCE_LENGTH,
        description="The world's name for it, such as a bank statement's line. A repeat of it changes nothing.",
    ),
]
Reason = Annotated[str, Meta(min_length=1, max_length=MAX_REASON_LENGTH, description="It is kept.")]
PositiveAmount = Annotated[
    str, Meta(pattern=r"^[0-9]{1,10}(\.[0-9]{1,9})?$", description="A decimal string, in the tenant's currency.")
]


class MoveFunds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A top-up needs no reason. A chargeback names its payment, and may leave debt: then nothing more is admitted.
    A refund pays out at most what was paid in and is free; only debt is written off, and that of an invoice by the
    invoice."""

    kind: Literal["top_up", "refund", "chargeback", "goodwill_credit", "write_off"]
    amount: PositiveAmount
    reference: Reference
    reason: Reason | None = None
    rail: Rail | None = None
    payment: Annotated[TransactionId | None, Meta(description="The top-up that is taken back.")] = None


class Reverse(Struct, frozen=True, forbid_unknown_fields=True):
    reference: Reference
    reason: Reason


class MovedView(Struct, frozen=True):
    """`repeated`: the reference had done it before. The balance is the tenant's afterwards."""

    transaction_id: TransactionId
    repeated: bool
    balance: BalanceView


class TenantTransactionView(Struct, frozen=True):
    id: TransactionId
    kind: TransactionKind
    amount: Annotated[Amount, Meta(description="What it did to the tenant's funds.")]
    currency: str
    reference: str | None
    reason: str | None
    rail: str | None
    reverses: TransactionId | None
    posted_at: datetime


class TenantTransactionList(Struct, frozen=True):
    items: list[TenantTransactionView]
    next_cursor: str | None


@get(
    "/tenants/{tenant_id:str}/transactions",
    permission=Permission.SEE_FUNDS,
    tags=[_TAG],
    summary="List a tenant's transactions",
    operation_id="operator_list_transactions",
    responses=answers.READ_ONE,
)
async def list_of_tenant(
    services: Given, tenant_id: TenantPath, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> TenantTransactionList:
    """Newest first."""
    scope = TenantScope(TenantId(id_in_path(TENANT, tenant_id, "tenant")))
    async with services.database.audit() as session:
        await read_balance(session, scope)
        rows = await list_transactions(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    return TenantTransactionList([_show(row) for row in page], next_cursor)


@post(
    "/tenants/{tenant_id:str}/transactions",
    permission=Permission.MOVE_FUNDS,
    tags=[_TAG],
    summary="Move a tenant's funds",
    operation_id="operator_move_funds",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def move(
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    data: JSONBody[MoveFunds],
    idempotency_key: IdempotencyKey = None,
) -> MovedView:
    """Once for each reference, whoever repeats it; the same reference for something else is refused."""
    scope = TenantScope(TenantId(id_in_path(TENANT, tenant_id, "tenant")))
    payment = None if data.payment is None else id_in_body(LEDGER_TRANSACTION, data.payment, "payment")
    asked = Movement(
        kind=TransactionKind(data.kind),
        amount_nano=parse_nano(data.amount),
        reference=data.reference,
        reason=data.reason,
        rail=data.rail,
        payment=payment,
    )
    return await perform(request, services, MovedView, partial(_move, scope, asked))


@post(
    "/tenants/{tenant_id:str}/transactions/{transaction_id:str}/reversal",
    permission=Permission.MOVE_FUNDS,
    tags=[_TAG],
    summary="Take a transaction back",
    operation_id="operator_reverse_transaction",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def take_back(  # noqa: PLR0917 -- the framework passes them by name
    request: OperatorRequest,
    services: Given,
    tenant_id: TenantPath,
    transaction_id: TransactionPath,
    data: JSONBody[Reverse],
    idempotency_key: IdempotencyKey = None,
) -> MovedView:
    """By another transaction that names it: nothing that is posted changes. Once, and never a transaction of usage:
    that is corrected request by request. An invoice whose write-off is taken back is open again."""
    scope = TenantScope(TenantId(id_in_path(TENANT, tenant_id, "tenant")))
    found = id_in_path(LEDGER_TRANSACTION, transaction_id, "transaction")

    async def work(session: AsyncSession) -> MovedView:
        moved = await _reverse(session, scope, found, data)
        return _show_moved(moved, await read_balance(session, scope))

    return await perform(request, services, MovedView, work)


async def _reverse(session: AsyncSession, scope: TenantScope, found: UUID, data: Reverse) -> Moved:
    own = await find_own_transaction(session, scope, LedgerTransactionId(found))
    if own is not None and await settles_invoice(session, found):
        moved = await take_back_write_off(session, found, reference=data.reference, reason=data.reason)
        if moved is not None:
            return moved
    return await reverse(session, scope.tenant_id, found, reference=data.reference, reason=data.reason)


async def _move(scope: TenantScope, asked: Movement, session: AsyncSession) -> MovedView:
    return _show_moved(await move_funds(session, scope.tenant_id, asked), await read_balance(session, scope))


def _show_moved(moved: Moved, balance: Balance) -> MovedView:
    return MovedView(encode_id(LEDGER_TRANSACTION, moved.transaction_id), moved.repeated, show_balance(balance))


def _show(row: Statement) -> TenantTransactionView:
    return TenantTransactionView(
        id=encode_id(LEDGER_TRANSACTION, row.id),
        kind=row.kind,
        amount=format_nano(row.amount_nano),
        currency=row.currency,
        reference=row.reference,
        reason=row.reason,
        rail=row.rail,
        reverses=None if row.reverses is None else encode_id(LEDGER_TRANSACTION, row.reverses),
        posted_at=row.posted_at,
    )
