"""Payments that nobody can attribute, as a queue for the operator."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from litestar import get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.funds.once import Moved
from chappe_billing.ledger.postings import Rail
from chappe_billing.suspense import queries, service
from chappe_billing.suspense.queries import Payment, Settlement
from chappe_billing.suspense.service import Incoming, Part
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.operator_api.funds import PositiveAmount, Reason, Reference, Reverse
from chappe_control.operator_api.performing import perform
from chappe_control.operator_api.queues import Show
from chappe_control.operator_api.references import EntityFilter, EntityInBody, entity_in_body, entity_in_query
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import MAX_ID_LENGTH, id_in_body, id_in_path
from chappe_control.public.transactions import TransactionId
from chappe_control.state import Given
from chappe_kernel.ids import LEDGER_TRANSACTION, LEGAL_ENTITY, TENANT, TenantId, encode_id
from chappe_kernel.money import format_nano, parse_nano

_TAG = "Suspense"

PaymentPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The payment's transaction, `txn_…`.")]


class ReceivePayment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Into a legal entity's suspense account, in its currency."""

    amount: PositiveAmount
    reference: Reference
    rail: Rail = Rail.BANK_TRANSFER
    note: Annotated[Reason, Meta(description="What came with the money: a payer, a purpose.")] | None = None
    legal_entity_id: EntityInBody = None


class AssignPayment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of it, or all. `reference` names this decision, and not the payment."""

    tenant_id: Annotated[str, Meta(pattern="^ten_", max_length=40)]
    amount: PositiveAmount
    reference: Reference
    reason: Reason


class ReturnPayment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of it, or all. `reference` is the bank's name for what went back."""

    amount: PositiveAmount
    reference: Reference
    reason: Reason


class SettledView(Struct, frozen=True):
    """`repeated`: the reference had done it before. `open` is what is left of the payment afterwards."""

    transaction_id: TransactionId
    repeated: bool
    open: Amount


class SuspenseView(Struct, frozen=True):
    id: TransactionId
    legal_entity_id: Annotated[str, Meta(pattern="^ent_")]
    amount: Amount
    open: Annotated[Amount, Meta(description="What of it is nobody's yet.")]
    currency: str
    reference: str
    rail: str | None
    note: str | None
    received_at: datetime


class SettlementView(Struct, frozen=True):
    transaction_id: TransactionId
    kind: Annotated[str, Meta(description="`top_up` of the tenant, `refund` to the sender, or `reversal` of it all.")]
    tenant_id: Annotated[str, Meta(pattern="^ten_")] | None
    amount: Amount
    reference: str
    reason: str | None
    posted_at: datetime
    taken_back: Annotated[bool, Meta(description="It was a mistake: the part is open again.")]


class SuspenseDetails(SuspenseView, frozen=True):
    """With what became of it, oldest first."""

    settlements: list[SettlementView]


class SuspenseList(Struct, frozen=True):
    items: list[SuspenseView]
    next_cursor: str | None


@get(
    "/suspense",
    permission=Permission.SEE_FUNDS,
    tags=[_TAG],
    summary="List payments in suspense",
    operation_id="operator_list_suspense",
    responses=answers.LIST,
)
async def list_all(
    services: Given,
    show: Show = "open",
    legal_entity_id: EntityFilter = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> SuspenseList:
    """Those of which something is open, newest first."""
    entity_id = entity_in_query(legal_entity_id)
    async with services.database.audit() as session:
        rows = await queries.list_payments(
            session, settled=show == "all", limit=limit + 1, entity_id=entity_id, before=decode_cursor(cursor)
        )
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    return SuspenseList([_show(row) for row in page], next_cursor)


@post(
    "/suspense",
    permission=Permission.MOVE_FUNDS,
    tags=[_TAG],
    summary="Record a payment that nobody can attribute",
    operation_id="operator_receive_suspense",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def receive(
    request: OperatorRequest, services: Given, data: JSONBody[ReceivePayment], idempotency_key: IdempotencyKey = None
) -> SettledView:
    """Once for each reference, whoever repeats it; the same reference for something else is refused."""
    incoming = Incoming(
        legal_entity_id=entity_in_body(data.legal_entity_id),
        amount_nano=parse_nano(data.amount),
        reference=data.reference,
        rail=data.rail,
        note=data.note,
    )

    async def work(session: AsyncSession) -> SettledView:
        moved = await service.receive(session, incoming)
        return await _show_settled(session, moved, moved.transaction_id)

    return await perform(request, services, SettledView, work)


@get(
    "/suspense/{payment_id:str}",
    permission=Permission.SEE_FUNDS,
    tags=[_TAG],
    summary="Read a payment in suspense",
    operation_id="operator_get_suspense",
    responses=answers.READ_ONE,
)
async def read(services: Given, payment_id: PaymentPath) -> SuspenseDetails:
    """With what became of it."""
    found = id_in_path(LEDGER_TRANSACTION, payment_id, "payment")
    async with services.database.audit() as session:
        payment = await service.get_payment(session, found)
        settlements = await queries.list_settlements(session, found)
    return SuspenseDetails(**_fields(payment), settlements=[_show_settlement(one) for one in settlements])


@post(
    "/suspense/{payment_id:str}/assignments",
    permission=Permission.MOVE_FUNDS,
    tags=[_TAG],
    summary="Assign a payment to a tenant",
    operation_id="operator_assign_suspense",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def assign(
    request: OperatorRequest,
    services: Given,
    payment_id: PaymentPath,
    data: JSONBody[AssignPayment],
    idempotency_key: IdempotencyKey = None,
) -> SettledView:
    """It becomes a top-up of the tenant's, which names it. To take the top-up back brings the money back here."""
    found = id_in_path(LEDGER_TRANSACTION, payment_id, "payment")
    tenant_id = TenantId(id_in_body(TENANT, data.tenant_id, "tenant_id"))
    part = Part(amount_nano=parse_nano(data.amount), reference=data.reference, reason=data.reason)

    async def work(session: AsyncSession) -> SettledView:
        return await _show_settled(session, await service.assign(session, found, tenant_id, part), found)

    return await perform(request, services, SettledView, work)


@post(
    "/suspense/{payment_id:str}/returns",
    permission=Permission.MOVE_FUNDS,
    tags=[_TAG],
    summary="Record that a payment went back",
    operation_id="operator_return_suspense",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def send_back(
    request: OperatorRequest,
    services: Given,
    payment_id: PaymentPath,
    data: JSONBody[ReturnPayment],
    idempotency_key: IdempotencyKey = None,
) -> SettledView:
    """To whoever sent it. Only the books: the bank's order is somebody else's to give."""
    found = id_in_path(LEDGER_TRANSACTION, payment_id, "payment")
    part = Part(amount_nano=parse_nano(data.amount), reference=data.reference, reason=data.reason)

    async def work(session: AsyncSession) -> SettledView:
        return await _show_settled(session, await service.send_back(session, found, part), found)

    return await perform(request, services, SettledView, work)


@post(
    "/suspense/{payment_id:str}/reversal",
    permission=Permission.MOVE_FUNDS,
    tags=[_TAG],
    summary="Take a payment or its return back",
    operation_id="operator_reverse_suspense",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def take_back(
    request: OperatorRequest,
    services: Given,
    payment_id: PaymentPath,
    data: JSONBody[Reverse],
    idempotency_key: IdempotencyKey = None,
) -> SettledView:
    """What was typed wrongly: a payment of which nothing is settled, or its return, which may stand here too. A top-up
    is taken back where the tenant's transactions are."""
    found = id_in_path(LEDGER_TRANSACTION, payment_id, "payment")

    async def work(session: AsyncSession) -> SettledView:
        moved, of = await service.take_back(session, found, reference=data.reference, reason=data.reason)
        return await _show_settled(session, moved, of)

    return await perform(request, services, SettledView, work)


async def _show_settled(session: AsyncSession, moved: Moved, payment_id: UUID) -> SettledView:
    payment = await service.get_payment(session, payment_id)
    transaction_id = encode_id(LEDGER_TRANSACTION, moved.transaction_id)
    return SettledView(transaction_id, moved.repeated, format_nano(payment.open_nano))


def _show(row: Payment) -> SuspenseView:
    return SuspenseView(**_fields(row))


def _fields(row: Payment) -> dict[str, Any]:
    return {
        "id": encode_id(LEDGER_TRANSACTION, row.id),
        "legal_entity_id": encode_id(LEGAL_ENTITY, row.legal_entity_id),
        "amount": format_nano(row.amount_nano),
        "open": format_nano(row.open_nano),
        "currency": row.currency,
        "reference": row.reference,
        "rail": row.rail,
        "note": row.note,
        "received_at": row.received_at,
    }


def _show_settlement(row: Settlement) -> SettlementView:
    return SettlementView(
        transaction_id=encode_id(LEDGER_TRANSACTION, row.id),
        kind=row.kind,
        tenant_id=None if row.tenant_id is None else encode_id(TENANT, row.tenant_id),
        amount=format_nano(row.amount_nano),
        reference=row.reference,
        reason=row.reason,
        posted_at=row.posted_at,
        taken_back=row.taken_back,
    )
