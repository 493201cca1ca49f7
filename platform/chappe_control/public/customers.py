"""Customers of a reseller: its own, and nobody else's."""

from functools import partial
from http import HTTPStatus
from typing import Annotated

from litestar import Response, get, patch, post
from litestar.params import JSONBody, PathParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.balance.queries import read_balance
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.joining.delivery import send_once
from chappe_control.onboarding.tenants import Defaults, create_customer
from chappe_control.origins import reseller_origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.balance import BalanceView, show_balance
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.state import Given
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import TENANT, TenantId, decode_id
from chappe_store.session import Database, TenantScope
from chappe_tenants.invitations.schemas import InviteOwner, SentInvitation
from chappe_tenants.invitations.service import invite_owner
from chappe_tenants.organisations import queries
from chappe_tenants.organisations.changes import change_customer
from chappe_tenants.organisations.lifecycle import Authority
from chappe_tenants.organisations.schemas import (
    ChangeOrganisation,
    CreateCustomer,
    CustomerView,
    TakeStep,
    show_customer,
)
from chappe_tenants.organisations.service import change_state, get_customer

CustomerPath = Annotated[str, PathParameter(max_length=100, description="The customer's id, `ten_…`.")]
_TAG = "Customers"


class CustomerList(Struct, frozen=True):
    items: list[CustomerView]
    next_cursor: str | None


@get(
    "/customers",
    permission=Permission.READ_CUSTOMERS,
    tags=[_TAG],
    summary="List customers",
    operation_id="list_customers",
    responses=answers.LIST,
)
async def list_customers(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> CustomerList:
    """The reseller's customers, newest first, those included that are closed. Who is no reseller has none."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rows = await queries.list_customers(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda customer: customer.id)
    return CustomerList([show_customer(customer) for customer in page], next_cursor)


@post(
    "/customers",
    permission=Permission.MANAGE_CUSTOMERS,
    tags=[_TAG],
    summary="Create a customer",
    operation_id="create_customer",
    responses=answers.CREATE,
    response_headers=[ETAG_HEADER],
    status_code=HTTPStatus.CREATED,
)
async def create(
    request: TenantRequest, services: Given, data: JSONBody[CreateCustomer], idempotency_key: IdempotencyKey = None
) -> Response[CustomerView]:
    """A customer that applies: the operator verifies and activates it. A repeat with the same `Idempotency-Key` and
    body gets the same answer."""
    scope = request.auth.scope
    call = await idempotency.call_of(request)
    defaults = Defaults(services.settings.sign_up_requests_per_minute)
    async with services.database.operator(reseller_origin_of(request)) as session:
        work = partial(_create, session, scope, data, defaults)
        view = await idempotency.once(session, scope, call, CustomerView, work)
    return with_etag(view)


@get(
    "/customers/{customer_id:str}",
    permission=Permission.READ_CUSTOMERS,
    tags=[_TAG],
    summary="Read a customer",
    operation_id="get_customer",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def read_customer(request: TenantRequest, services: Given, customer_id: CustomerPath) -> Response[CustomerView]:
    """With its state, and what the reseller can do about that."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        return with_etag(show_customer(await get_customer(session, scope, id_of(customer_id))))


@patch(
    "/customers/{customer_id:str}",
    permission=Permission.MANAGE_CUSTOMERS,
    tags=[_TAG],
    summary="Change a customer",
    operation_id="change_customer",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change(
    request: TenantRequest,
    services: Given,
    customer_id: CustomerPath,
    data: JSONBody[ChangeOrganisation],
    if_match: IfMatch = None,
) -> Response[CustomerView]:
    """What is left out stays. Once verified, legal name, country and VAT number are the operator's to change. Its
    regions are some of the reseller's."""
    scope = request.auth.scope
    async with services.database.tenant(scope, reseller_origin_of(request)) as session:
        customer = await change_customer(
            session,
            scope,
            id_of(customer_id),
            data,
            jurisdiction_of=await read_jurisdictions(session),
            check=lambda present: check_match(request, show_customer(present)),
        )
        return with_etag(show_customer(customer))


@post(
    "/customers/{customer_id:str}/transitions",
    permission=Permission.MANAGE_CUSTOMERS,
    tags=[_TAG],
    summary="Change a customer's state",
    operation_id="change_customer_state",
    responses=answers.CREATE,
    response_headers=[ETAG_HEADER],
    status_code=HTTPStatus.OK,
)
async def take_step(
    request: TenantRequest,
    services: Given,
    customer_id: CustomerPath,
    data: JSONBody[TakeStep],
    idempotency_key: IdempotencyKey = None,
) -> Response[CustomerView]:
    """Suspends, resumes or closes a customer, for a reason that its people are told. What the operator has suspended,
    only the operator resumes."""
    scope = request.auth.scope
    call = await idempotency.call_of(request)
    customer = await scope_of_customer(services.database, scope, id_of(customer_id))
    async with services.database.operator(reseller_origin_of(request)) as session:
        work = partial(_take_step, session, scope, customer, data)
        view = await idempotency.once(session, scope, call, CustomerView, work)
    return with_etag(view)


@post(
    "/customers/{customer_id:str}/owner-invitations",
    permission=Permission.MANAGE_CUSTOMERS,
    tags=[_TAG],
    summary="Invite a customer's first owner",
    operation_id="invite_customer_owner",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def invite_an_owner(
    request: TenantRequest,
    services: Given,
    customer_id: CustomerPath,
    data: JSONBody[InviteOwner],
    idempotency_key: IdempotencyKey = None,
) -> SentInvitation:
    """Asks whoever reads mail at the address to own the customer's organisation; once it has an owner, that one invites
    all others. An address that was asked before is asked again, with a new link."""
    scope = request.auth.scope
    customer = await scope_of_customer(services.database, scope, id_of(customer_id))
    async with services.database.operator(reseller_origin_of(request)) as session:
        work = partial(invite_owner, session, customer, data.email, Authority.RESELLER)
        return await send_once(request, session, scope, work)


@get(
    "/customers/{customer_id:str}/balance",
    permission=Permission.READ_CUSTOMERS,
    tags=[_TAG],
    summary="Read a customer's balance",
    operation_id="get_customer_balance",
    responses=answers.READ_ONE,
)
async def read_customer_balance(request: TenantRequest, services: Given, customer_id: CustomerPath) -> BalanceView:
    """What the customer has left, exact to the nano."""
    customer = await scope_of_customer(services.database, request.auth.scope, id_of(customer_id))
    async with services.database.tenant(customer) as session:
        return show_balance(await read_balance(session, customer))


async def scope_of_customer(database: Database, reseller: TenantScope, customer_id: TenantId) -> TenantScope:
    """To act for a customer. Row-level security proves that it is this reseller's: raises `NotFound` for any other."""
    async with database.tenant(reseller) as session:
        return TenantScope(TenantId((await get_customer(session, reseller, customer_id)).id))


def id_of(text: str) -> TenantId:
    """Raises `NotFound` for what is no id."""
    try:
        return TenantId(decode_id(TENANT, text))
    except Invalid:
        raise NotFound("no such organisation") from None


async def _create(
    session: AsyncSession, reseller: TenantScope, asked: CreateCustomer, defaults: Defaults
) -> CustomerView:
    return show_customer(await create_customer(session, reseller, asked, defaults))


async def _take_step(
    session: AsyncSession, reseller: TenantScope, customer: TenantScope, asked: TakeStep
) -> CustomerView:
    # Once more, now that nobody can change it: the operator may have moved it to another parent meanwhile.
    await get_customer(session, reseller, customer.tenant_id, lock=True)
    return show_customer(await change_state(session, customer, asked.state, asked.reason, Authority.RESELLER))
