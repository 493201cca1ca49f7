"""The calling tenant's payments through the payment service."""

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.payments import queries, service
from chappe_billing.payments.amounts import nano_per_minor
from chappe_billing.payments.models import Method, Payment, PaymentState, Purpose
from chappe_billing.payments.service import TopUp
from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import MAX_ID_LENGTH, id_in_path
from chappe_control.state import Given, Services
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import PAYMENT, encode_id
from chappe_kernel.money import format_nano, parse_nano
from chappe_store.session import TenantScope

PaymentPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The payment's id, `pay_…`.")]
PaymentId = Annotated[str, Meta(pattern="^pay_", max_length=40)]


class StartTopUp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    amount: Annotated[
        str,
        Meta(
            pattern=r"^[0-9]{1,10}(\.[0-9]{1,9})?$",
            description="What your balance rises by, without tax, in your currency; whole cents.",
        ),
    ]
    method: Method = Method.CARD
    save: Annotated[bool, Meta(description="Keep the card or account for later payments.")] = False


class PaymentView(Struct, frozen=True):
    id: PaymentId
    purpose: Purpose
    method: Method
    state: PaymentState
    currency: str
    net: Amount
    tax: Amount
    gross: Amount
    url: Annotated[str | None, Meta(description="Where to pay, while it is open. It takes a moment to be there.")]
    created_at: datetime


class PaymentList(Struct, frozen=True):
    items: list[PaymentView]
    next_cursor: str | None


@get(
    "/payments",
    permission=Permission.READ_BALANCE,
    tags=["Money"],
    summary="List payments",
    operation_id="list_payments",
    responses=answers.LIST,
)
async def list_own(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> PaymentList:
    """Newest first, without the addresses where open ones are paid."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rows = await queries.list_payments(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    return PaymentList([show_payment(row, None) for row in page], next_cursor)


@get(
    "/payments/{payment_id:str}",
    permission=Permission.READ_BALANCE,
    tags=["Money"],
    summary="Read a payment",
    operation_id="get_payment",
    responses=answers.READ_ONE,
)
async def get_payment(request: TenantRequest, services: Given, payment_id: PaymentPath) -> PaymentView:
    """One payment, and while it is open where to pay it."""
    found = id_in_path(PAYMENT, payment_id, "payment")
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        payment = await queries.find_payment(session, scope, found)
        if payment is None:
            raise NotFound("no such payment")
        url = await queries.url_of(session, scope, found) if payment.state == PaymentState.OPEN else None
    return show_payment(payment, url)


@post(
    "/payments",
    permission=Permission.MANAGE_PAYMENTS,
    tags=["Money"],
    summary="Begin a top-up",
    operation_id="create_payment",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def create_payment(
    request: TenantRequest, services: Given, data: JSONBody[StartTopUp], idempotency_key: IdempotencyKey = None
) -> PaymentView:
    """Says what is to be paid in all, with tax. Your balance rises by the net amount once the money is there. Not for
    keys: only people of your organisation pay."""
    scope = request.auth.scope
    call = await idempotency.call_of(request)
    async with services.database.tenant(scope, origin_of(request)) as session:
        work = partial(_start, session, scope, services, data)
        return await idempotency.once(session, scope, call, PaymentView, work)


async def _start(session: AsyncSession, scope: TenantScope, services: Services, data: StartTopUp) -> PaymentView:
    asked = TopUp(net_nano=parse_nano(data.amount), method=data.method, save=data.save)
    office = services.payments
    office.wake_after(session)
    payment_id = await service.start_top_up(
        session, scope, asked, bounds=office.bounds, portal_url=services.settings.portal_url
    )
    payment = await queries.find_payment(session, scope, payment_id)
    if payment is None:
        raise NotFound("no such payment")
    return show_payment(payment, None)


def show_payment(payment: Payment, url: str | None) -> PaymentView:
    return PaymentView(
        id=encode_id(PAYMENT, payment.id),
        purpose=Purpose(payment.purpose),
        method=Method(payment.method),
        state=PaymentState(payment.state),
        currency=payment.currency,
        net=format_nano(payment.net_nano),
        tax=format_nano(payment.tax_nano),
        gross=format_nano(payment.gross_minor * nano_per_minor(payment.currency)),
        url=url,
        created_at=payment.created_at,
    )
