"""The statement of the calling tenant's funds."""

from datetime import datetime
from typing import Annotated

from litestar import get
from msgspec import Meta, Struct

from chappe_billing.ledger.postings import TransactionKind
from chappe_billing.ledger.queries import Statement, list_transactions
from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, Limit
from chappe_control.state import Given
from chappe_kernel.ids import LEDGER_TRANSACTION, encode_id
from chappe_kernel.money import format_nano

TransactionId = Annotated[str, Meta(pattern="^txn_", max_length=40)]


class TransactionView(Struct, frozen=True):
    """Usage is one transaction for each batch that a gateway sent."""

    id: TransactionId
    kind: TransactionKind
    amount: Annotated[Amount, Meta(description="What it did to your funds; what was taken is negative.")]
    currency: str
    reference: Annotated[str | None, Meta(description="Of the payment, the ticket or the period.")]
    reverses: Annotated[
        TransactionId | None, Meta(description="The transaction that this one takes back, in part or whole.")
    ]
    posted_at: datetime


class TransactionList(Struct, frozen=True):
    items: list[TransactionView]
    next_cursor: str | None


@get(
    "/transactions",
    permission=Permission.READ_BALANCE,
    tags=["Money"],
    summary="List transactions",
    operation_id="list_transactions",
    responses=answers.LIST,
)
async def list_own(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> TransactionList:
    """All that moved your funds, newest first. The amounts of all of them sum to what `/balance` calls available."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rows = await list_transactions(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    return TransactionList([show_transaction(row) for row in page], next_cursor)


def show_transaction(row: Statement) -> TransactionView:
    return TransactionView(
        id=encode_id(LEDGER_TRANSACTION, row.id),
        kind=row.kind,
        amount=format_nano(row.amount_nano),
        currency=row.currency,
        reference=row.reference,
        reverses=None if row.reverses is None else encode_id(LEDGER_TRANSACTION, row.reverses),
        posted_at=row.posted_at,
    )
