"""The calling tenant's saved cards and accounts, and its standing order for top-ups."""

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import Response, delete, get, post, put
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.payments import auto_top_ups, queries, service
from chappe_billing.payments.auto_top_ups import MAX_PER_MONTH, Wanted
from chappe_billing.payments.models import CallKind, Method, PaymentCall, PaymentMethod
from chappe_control.authentication import TenantRequest
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import Amount, IdempotencyKey
from chappe_control.public.references import MAX_ID_LENGTH, id_in_path
from chappe_control.state import Given, Services
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import PAYMENT_CALL, encode_id
from chappe_kernel.money import format_nano, parse_nano
from chappe_store.session import TenantScope

_TAG = "Money"
_MAX_NAME_LENGTH = 255

MethodPath = Annotated[
    str, PathParameter(max_length=_MAX_NAME_LENGTH, description="The method's id at the payment service, `pm_…`.")
]
SetupPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The setup's id, `pcl_…`.")]
Units = Annotated[str, Meta(pattern=r"^[0-9]{1,10}(\.[0-9]{1,9})?$")]


class PaymentMethodView(Struct, frozen=True):
    id: Annotated[str, Meta(max_length=_MAX_NAME_LENGTH)]
    kind: Method
    label: Annotated[str, Meta(description="What its owner recognises it by.")]
    expires: Annotated[str | None, Meta(description="The month in which a card does, `2028-04`.")]
    is_default: Annotated[bool, Meta(description="It is charged when nobody is there to ask.")]
    added_at: datetime


class PaymentMethodList(Struct, frozen=True):
    items: list[PaymentMethodView]


class SetupView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^pcl_")]
    url: Annotated[str | None, Meta(description="Where to save a method. It takes a moment to be there.")]
    created_at: datetime


class AutoTopUpBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    on: bool
    below: Annotated[Units, Meta(description="Top up when less than this is available.")]
    amount: Annotated[Units, Meta(description="By this, without tax; whole cents.")]
    most_per_month: Annotated[int, Meta(ge=1, le=MAX_PER_MONTH, description="In a calendar month (UTC).")]


class AutoTopUpView(Struct, frozen=True):
    """Of a tenant that never set one: off, and nothing else."""

    on: bool
    below: Amount | None
    amount: Amount | None
    most_per_month: int | None
    failures: Annotated[int, Meta(description="In a row; after the third it is off.")]


@get(
    "/payment-methods",
    permission=Permission.READ_BALANCE,
    tags=[_TAG],
    summary="List payment methods",
    operation_id="list_payment_methods",
    responses=answers.READ,
)
async def list_methods(request: TenantRequest, services: Given) -> PaymentMethodList:
    """The default first."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        return PaymentMethodList([_show(method) for method in await queries.list_methods(session, scope)])


@post(
    "/payment-methods/setups",
    permission=Permission.MANAGE_PAYMENTS,
    tags=[_TAG],
    summary="Begin to save a payment method",
    operation_id="create_payment_method_setup",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def create_setup(request: TenantRequest, services: Given, idempotency_key: IdempotencyKey = None) -> SetupView:
    """A page of the payment service's, on which a person saves a card or an account. Not for keys."""
    scope = request.auth.scope
    call = await idempotency.call_of(request)
    async with services.database.tenant(scope, origin_of(request)) as session:
        return await idempotency.once(session, scope, call, SetupView, partial(_set_up, session, scope, services))


@get(
    "/payment-methods/setups/{setup_id:str}",
    permission=Permission.READ_BALANCE,
    tags=[_TAG],
    summary="Read a setup",
    operation_id="get_payment_method_setup",
    responses=answers.READ_ONE,
)
async def read_setup(request: TenantRequest, services: Given, setup_id: SetupPath) -> SetupView:
    """Where a method can be saved. What was saved is among the payment methods."""
    found = id_in_path(PAYMENT_CALL, setup_id, "setup")
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        call = await queries.find_call(session, scope, found)
    if call is None or call.kind != CallKind.SETUP:
        raise NotFound("no such setup")
    return _show_setup(call)


@post(
    "/payment-methods/{method_id:str}/default",
    permission=Permission.MANAGE_PAYMENTS,
    tags=[_TAG],
    summary="Choose the default payment method",
    operation_id="choose_payment_method",
    responses=answers.REMOVE,
    status_code=HTTPStatus.OK,
)
async def choose(
    request: TenantRequest, services: Given, method_id: MethodPath, idempotency_key: IdempotencyKey = None
) -> PaymentMethodList:
    """It is charged from now on when nobody is there to ask. Not for keys."""
    scope = request.auth.scope
    call = await idempotency.call_of(request)

    async def work() -> PaymentMethodList:
        await service.choose_method(session, scope, method_id)
        return PaymentMethodList([_show(method) for method in await queries.list_methods(session, scope)])

    async with services.database.tenant(scope, origin_of(request)) as session:
        return await idempotency.once(session, scope, call, PaymentMethodList, work)


@delete(
    "/payment-methods/{method_id:str}",
    permission=Permission.MANAGE_PAYMENTS,
    tags=[_TAG],
    summary="Remove a payment method",
    operation_id="remove_payment_method",
    responses=answers.REMOVE,
)
async def remove(request: TenantRequest, services: Given, method_id: MethodPath) -> None:
    """It is not charged any more, and the payment service forgets it. Not for keys."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        services.payments.wake_after(session)
        await service.remove_method(session, scope, method_id)


@get(
    "/auto-top-up",
    permission=Permission.READ_BALANCE,
    tags=[_TAG],
    summary="Read the automatic top-up",
    operation_id="get_auto_top_up",
    responses=answers.READ,
    response_headers=[ETAG_HEADER],
)
async def read_auto_top_up(request: TenantRequest, services: Given) -> Response[AutoTopUpView]:
    """Whether low funds are topped up by the default payment method."""
    async with services.database.tenant(request.auth.scope) as session:
        return with_etag(await _view(session, request.auth.scope))


@put(
    "/auto-top-up",
    permission=Permission.MANAGE_PAYMENTS,
    tags=[_TAG],
    summary="Set the automatic top-up",
    operation_id="set_auto_top_up",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def put_auto_top_up(
    request: TenantRequest, services: Given, data: JSONBody[AutoTopUpBody], if_match: IfMatch = None
) -> Response[AutoTopUpView]:
    """On, it charges the default payment method, with tax. It begins anew, without the failures of before. Not for
    keys: only people of your organisation pay."""
    scope = request.auth.scope
    wanted = Wanted(
        is_on=data.on,
        below_nano=parse_nano(data.below),
        net_nano=parse_nano(data.amount),
        most_per_month=data.most_per_month,
    )
    async with services.database.tenant(scope, origin_of(request)) as session:
        await queries.lock_customer(session, scope.tenant_id)
        check_match(request, await _view(session, scope))
        await auto_top_ups.set_auto_top_up(session, scope, wanted, bounds=services.payments.bounds)
        return with_etag(await _view(session, scope))


async def _set_up(session: AsyncSession, scope: TenantScope, services: Services) -> SetupView:
    services.payments.wake_after(session)
    call_id = await service.start_setup(session, scope, portal_url=services.settings.portal_url)
    call = await queries.find_call(session, scope, call_id)
    if call is None:
        raise NotFound("no such setup")
    return _show_setup(call)


async def _view(session: AsyncSession, scope: TenantScope) -> AutoTopUpView:
    found = await queries.find_auto_top_up(session, scope)
    if found is None:
        return AutoTopUpView(on=False, below=None, amount=None, most_per_month=None, failures=0)
    return AutoTopUpView(
        on=found.is_on,
        below=format_nano(found.below_nano),
        amount=format_nano(found.net_nano),
        most_per_month=found.most_per_month,
        failures=found.failures,
    )


def _show(method: PaymentMethod) -> PaymentMethodView:
    return PaymentMethodView(
        id=method.service_id,
        kind=Method(method.kind),
        label=method.label,
        expires=method.expires,
        is_default=method.is_default,
        added_at=method.added_at,
    )


def _show_setup(call: PaymentCall) -> SetupView:
    return SetupView(encode_id(PAYMENT_CALL, call.id), call.url, call.created_at)
