"""Payments through the payment service, for the operator: all of them, paying one back, and calls that are stuck."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.payments import call_queries, calling, queries, service
from chappe_billing.payments.amounts import nano_per_minor
from chappe_billing.payments.models import (
    CallKind,
    CallState,
    DisputeState,
    PaymentCall,
    PaymentDispute,
    PaymentRefund,
    RefundState,
)
from chappe_billing.payments.service import RefundAsked
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.operator_api.funds import PositiveAmount, Reason
from chappe_control.operator_api.performing import perform
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, IdempotencyKey, Limit
from chappe_control.public.payments import PaymentId, PaymentList, PaymentPath, PaymentView, show_payment
from chappe_control.public.references import MAX_ID_LENGTH, id_in_path
from chappe_control.state import Given
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import PAYMENT, PAYMENT_CALL, REFUND, TENANT, encode_id, new_id
from chappe_kernel.money import format_nano, parse_nano

_TAG = "Payments"

CallPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The call's id, `pcl_…`.")]


class PayBackPayment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    amount: Annotated[PositiveAmount | None, Meta(description="With tax. Without it, all that is left.")] = None
    reason: Reason


class RefundView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^rfd_")]
    payment_id: PaymentId
    state: RefundState
    net: Annotated[Amount, Meta(description="What left the tenant's funds.")]
    gross: Annotated[Amount, Meta(description="What goes to the payer.")]
    currency: str


class RefundList(Struct, frozen=True):
    items: list[RefundView]


class DisputeView(Struct, frozen=True):
    """Lost, its amount is charged back; won after all, that is taken back."""

    id: Annotated[str, Meta(max_length=255, description="The payment service's own.")]
    tenant_id: Annotated[str, Meta(pattern="^ten_")]
    payment_id: PaymentId
    state: DisputeState
    amount: Amount
    currency: str
    reason: str
    opened_at: datetime


class DisputeList(Struct, frozen=True):
    items: list[DisputeView]


class RetryCall(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Reason


class AttemptView(Struct, frozen=True):
    attempt: int
    outcome: str
    detail: str | None
    at: datetime


class PaymentCallView(Struct, frozen=True):
    """`log` is what came of each try."""

    id: Annotated[str, Meta(pattern="^pcl_")]
    tenant_id: Annotated[str, Meta(pattern="^ten_")]
    kind: CallKind
    state: CallState
    attempts: int
    log: list[AttemptView]


class PaymentCallList(Struct, frozen=True):
    items: list[PaymentCallView]


@get(
    "/payments",
    permission=Permission.SEE_PAYMENTS,
    tags=[_TAG],
    summary="List payments",
    operation_id="operator_list_payments",
    responses=answers.LIST,
)
async def list_all(
    request: OperatorRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> PaymentList:
    """All tenants', newest first."""
    async with services.database.audit() as session:
        rows = await queries.list_all_payments(session, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    return PaymentList([show_payment(row, None) for row in page], next_cursor)


@get(
    "/payments/{payment_id:str}",
    permission=Permission.SEE_PAYMENTS,
    tags=[_TAG],
    summary="Read a payment",
    operation_id="operator_get_payment",
    responses=answers.READ_ONE,
)
async def read(request: OperatorRequest, services: Given, payment_id: PaymentPath) -> PaymentView:
    """Whoever's it is."""
    found = id_in_path(PAYMENT, payment_id, "payment")
    async with services.database.audit() as session:
        payment = await queries.find_any_payment(session, found)
    if payment is None:
        raise NotFound("no such payment")
    return show_payment(payment, None)


@post(
    "/payments/{payment_id:str}/refunds",
    permission=Permission.WORK_PAYMENTS,
    tags=[_TAG],
    summary="Pay a payment back",
    operation_id="operator_refund_payment",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def refund(
    request: OperatorRequest,
    services: Given,
    payment_id: PaymentPath,
    data: JSONBody[PayBackPayment],
    idempotency_key: IdempotencyKey = None,
) -> RefundView:
    """Leaves the tenant's funds at once, and goes to the payer by the way that it came; never more than is left of the
    payment and free in the funds. A repeat needs its `Idempotency-Key`."""
    found = id_in_path(PAYMENT, payment_id, "payment")

    async def work(session: AsyncSession) -> RefundView:
        services.payments.wake_after(session)
        gross_minor = None if data.amount is None else await _minor(session, found, data.amount)
        asked = RefundAsked(refund_id=new_id(), gross_minor=gross_minor, reason=data.reason)
        return _show(await service.refund(session, found, asked))

    return await perform(request, services, RefundView, work)


@get(
    "/payments/{payment_id:str}/refunds",
    permission=Permission.SEE_PAYMENTS,
    tags=[_TAG],
    summary="List a payment's refunds",
    operation_id="operator_list_payment_refunds",
    responses=answers.READ_ONE,
)
async def list_refunds(request: OperatorRequest, services: Given, payment_id: PaymentPath) -> RefundList:
    """Newest first, at most a hundred, also those that the payment service could not pay out."""
    found = id_in_path(PAYMENT, payment_id, "payment")
    async with services.database.audit() as session:
        if await queries.find_any_payment(session, found) is None:
            raise NotFound("no such payment")
        return RefundList([_show(one) for one in await queries.list_refunds(session, payment_id=found)])


@get(
    "/payment-disputes",
    permission=Permission.SEE_PAYMENTS,
    tags=[_TAG],
    summary="List disputes",
    operation_id="operator_list_payment_disputes",
    responses=answers.READ,
)
async def list_disputes(request: OperatorRequest, services: Given) -> DisputeList:
    """Payments that a bank may take back, or took back; newest first, at most a hundred."""
    async with services.database.audit() as session:
        return DisputeList([_show_dispute(one) for one in await queries.list_disputes(session)])


@get(
    "/payment-calls",
    permission=Permission.SEE_PAYMENTS,
    tags=[_TAG],
    summary="List stuck calls",
    operation_id="operator_list_payment_calls",
    responses=answers.READ,
)
async def list_calls(request: OperatorRequest, services: Given) -> PaymentCallList:
    """Calls to the payment service that can never work as they are, and then those that are tried again; at most a
    hundred, oldest first."""
    async with services.database.audit() as session:
        calls = await call_queries.list_open_calls(session)
        return PaymentCallList([await _show_call(session, call) for call in calls])


@post(
    "/payment-calls/{call_id:str}/retry",
    permission=Permission.WORK_PAYMENTS,
    tags=[_TAG],
    summary="Try a stuck call again",
    operation_id="operator_retry_payment_call",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def retry(
    request: OperatorRequest,
    services: Given,
    call_id: CallPath,
    data: JSONBody[RetryCall],
    idempotency_key: IdempotencyKey = None,
) -> PaymentCallView:
    """What it may have done is looked for first."""
    found = id_in_path(PAYMENT_CALL, call_id, "call")

    async def work(session: AsyncSession) -> PaymentCallView:
        services.payments.wake_after(session)
        await calling.try_again(session, found, reason=data.reason)
        call = await call_queries.lock_call(session, found)
        return await _show_call(session, call)

    return await perform(request, services, PaymentCallView, work)


async def _minor(session: AsyncSession, payment_id: UUID, amount: str) -> int:
    payment = await queries.find_any_payment(session, payment_id)
    if payment is None:
        raise NotFound("no such payment")
    whole, rest = divmod(parse_nano(amount), nano_per_minor(payment.currency))
    if rest:
        raise Invalid("what is paid back is in whole cents", code="invalid_amount", param="amount")
    return whole


def _show(refund: PaymentRefund) -> RefundView:
    return RefundView(
        id=encode_id(REFUND, refund.id),
        payment_id=encode_id(PAYMENT, refund.payment_id),
        state=RefundState(refund.state),
        net=format_nano(refund.net_nano),
        gross=format_nano(refund.gross_minor * nano_per_minor(refund.currency)),
        currency=refund.currency,
    )


def _show_dispute(dispute: PaymentDispute) -> DisputeView:
    return DisputeView(
        id=dispute.service_id,
        tenant_id=encode_id(TENANT, dispute.tenant_id),
        payment_id=encode_id(PAYMENT, dispute.payment_id),
        state=DisputeState(dispute.state),
        amount=format_nano(dispute.amount_minor * nano_per_minor(dispute.currency)),
        currency=dispute.currency,
        reason=dispute.reason,
        opened_at=dispute.opened_at,
    )


async def _show_call(session: AsyncSession, call: PaymentCall) -> PaymentCallView:
    attempts = await call_queries.list_attempts(session, call.id)
    return PaymentCallView(
        id=encode_id(PAYMENT_CALL, call.id),
        tenant_id=encode_id(TENANT, call.tenant_id),
        kind=CallKind(call.kind),
        state=CallState(call.state),
        attempts=call.attempts,
        log=[AttemptView(one.attempt, one.outcome, one.detail, one.at) for one in attempts],
    )
