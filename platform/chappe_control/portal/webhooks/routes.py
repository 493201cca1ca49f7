"""`/webhooks`: endpoints, their secrets (shown once), their deliveries."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import PathParameter
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.portal.webhooks.texts import ERRORS, KINDS, PROBLEMS, REASONS, STATES
from chappe_control.public.webhooks import read_delivery_id, read_webhook_id
from chappe_control.state import Given, Services
from chappe_control.webhooks import queries, service
from chappe_control.webhooks.kinds import CHOOSABLE
from chappe_control.webhooks.models import WebhookEndpoint
from chappe_control.webhooks.service import EndpointOrder, MadeEndpoint
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import WEBHOOK, encode_id
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]
WebhookPath = Annotated[str, PathParameter()]
DeliveryPath = Annotated[str, PathParameter()]
Work = Callable[[AsyncSession, WebhookEndpoint], Awaitable[object]]

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_PER_PAGE: Final = 25
_FIELDS: Final = ("url", "description")


@get("/webhooks", include_in_schema=False, permission=Permission.READ_WEBHOOKS)
async def show_webhooks(request: MemberRequest, services: Given) -> Response[bytes]:
    return await _list(request, services)


@post("/webhooks", include_in_schema=False, permission=Permission.MANAGE_WEBHOOKS)
async def create_webhook(request: MemberRequest, services: Given) -> Response[Any]:
    posted, kinds = await _read(request)
    scope, to_loopback = request.auth.scope, services.settings.webhooks_to_loopback
    order = EndpointOrder(posted["url"], kinds, posted["description"])
    try:
        async with services.database.tenant(scope, origin_of(request)) as session:
            made = await service.create_endpoint(session, scope, services.webhook_seal, order, to_loopback=to_loopback)
    except (Invalid, Conflict) as error:
        form = _wrong(request, posted, error)
        return await _list(request, services, form=form, chosen=kinds, status=HTTPStatus.BAD_REQUEST)
    return _show_secret(request, made)


@get("/webhooks/{webhook_id:str}", include_in_schema=False, permission=Permission.READ_WEBHOOKS)
async def show_webhook(request: MemberRequest, services: Given, webhook_id: WebhookPath) -> Response[bytes]:
    return await _one(request, services, webhook_id)


@post("/webhooks/{webhook_id:str}", include_in_schema=False, permission=Permission.MANAGE_WEBHOOKS)
async def change_webhook(request: MemberRequest, services: Given, webhook_id: WebhookPath) -> Response[Any]:
    posted, kinds = await _read(request)
    to_loopback = services.settings.webhooks_to_loopback
    order = EndpointOrder(posted["url"], kinds, posted["description"])

    async def work(session: AsyncSession, endpoint: WebhookEndpoint) -> None:
        await service.change_endpoint(session, request.auth.scope, endpoint, order, to_loopback=to_loopback)

    try:
        await _locked(request, services, webhook_id, work)
    except Invalid as error:
        form = _wrong(request, posted, error)
        return await _one(request, services, webhook_id, form=form, chosen=kinds, status=HTTPStatus.BAD_REQUEST)
    return _back(request, webhook_id, N_("The webhook is changed."))


@post("/webhooks/{webhook_id:str}/rotate", include_in_schema=False, permission=Permission.MANAGE_WEBHOOKS)
async def rotate_secret(request: MemberRequest, services: Given, webhook_id: WebhookPath) -> Response[Any]:
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        endpoint = await service.get_endpoint(session, scope, read_webhook_id(webhook_id), lock=True)
        made = await service.rotate_secret(session, scope, services.webhook_seal, endpoint)
    return _show_secret(request, made)


@post("/webhooks/{webhook_id:str}/enabled", include_in_schema=False, permission=Permission.MANAGE_WEBHOOKS)
async def enable_webhook(request: MemberRequest, services: Given, webhook_id: WebhookPath) -> Response[Any]:
    """`enabled` says whether it shall be."""
    enabled = bool((await read_fields(request, "enabled"))["enabled"])

    async def work(session: AsyncSession, endpoint: WebhookEndpoint) -> None:
        await service.set_enabled(session, request.auth.scope, endpoint, enabled=enabled)

    await _locked(request, services, webhook_id, work)
    return _back(request, webhook_id, N_("The webhook is enabled.") if enabled else N_("The webhook is disabled."))


@post("/webhooks/{webhook_id:str}/remove", include_in_schema=False, permission=Permission.MANAGE_WEBHOOKS)
async def remove_webhook(request: MemberRequest, services: Given, webhook_id: WebhookPath) -> Response[Any]:
    async def work(session: AsyncSession, endpoint: WebhookEndpoint) -> None:
        await service.remove_endpoint(session, request.auth.scope, endpoint)

    await _locked(request, services, webhook_id, work)
    return _back(request, "", N_("The webhook is removed."))


@post("/webhooks/{webhook_id:str}/test", include_in_schema=False, permission=Permission.MANAGE_WEBHOOKS)
async def send_test(request: MemberRequest, services: Given, webhook_id: WebhookPath) -> Response[Any]:
    async def work(session: AsyncSession, endpoint: WebhookEndpoint) -> None:
        await service.send_test(session, request.auth.scope, endpoint)

    return await _ordered(request, services, webhook_id, work, N_("A test is on its way. See below how it goes."))


@post(
    "/webhooks/{webhook_id:str}/deliveries/{delivery_id:str}/redeliver",
    include_in_schema=False,
    permission=Permission.MANAGE_WEBHOOKS,
)
async def redeliver(
    request: MemberRequest, services: Given, webhook_id: WebhookPath, delivery_id: DeliveryPath
) -> Response[Any]:
    async def work(session: AsyncSession, endpoint: WebhookEndpoint) -> None:
        await service.redeliver(session, request.auth.scope, endpoint, read_delivery_id(delivery_id))

    return await _ordered(request, services, webhook_id, work, N_("The event is on its way again."))


async def _locked(request: MemberRequest, services: Services, webhook_id: str, work: Work) -> None:
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        await work(session, await service.get_endpoint(session, scope, read_webhook_id(webhook_id), lock=True))


async def _ordered(request: MemberRequest, services: Services, webhook_id: str, work: Work, done: str) -> Response[Any]:
    try:
        await _locked(request, services, webhook_id, work)
    except Conflict as error:
        return _back(request, webhook_id, PROBLEMS[error.code], "red")
    return _back(request, webhook_id, done)


async def _list(
    request: MemberRequest,
    services: Services,
    *,
    form: Form | None = None,
    chosen: list[str] | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response[bytes]:
    scope = request.auth.scope
    async with services.database.tenant_snapshot(scope) as session:
        endpoints = await queries.list_endpoints(session, scope)
    return page(
        request,
        "portal/webhooks.html",
        status=status,
        endpoints=endpoints,
        most=service.MAX_ENDPOINTS,
        kinds=KINDS,
        choosable=CHOOSABLE,
        form=form or Form(),
        form_is_open=form is not None or "new" in request.query_params,
        chosen=CHOOSABLE if chosen is None else chosen,
    )


async def _one(
    request: MemberRequest,
    services: Services,
    webhook_id: str,
    *,
    form: Form | None = None,
    chosen: list[str] | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response[bytes]:
    scope, before = request.auth.scope, decode_cursor(request.query_params.get("cursor"))
    async with services.database.tenant_snapshot(scope) as session:
        endpoint = await service.get_endpoint(session, scope, read_webhook_id(webhook_id))
        rows = await queries.list_deliveries(session, scope, endpoint.id, limit=_PER_PAGE + 1, before=before)
    deliveries, next_cursor = cut_page(rows, _PER_PAGE, lambda row: row.id)
    return page(
        request,
        "portal/webhook.html",
        status=status,
        endpoint=endpoint,
        deliveries=deliveries,
        next_cursor=next_cursor,
        kinds=KINDS,
        choosable=CHOOSABLE,
        states=STATES,
        errors=ERRORS,
        reasons=REASONS,
        form=form or Form({"url": endpoint.url, "description": endpoint.description}),
        chosen=endpoint.kinds if chosen is None else chosen,
    )


async def _read(request: MemberRequest) -> tuple[dict[str, str], list[str]]:
    posted = await read_fields(request, *_FIELDS)
    kinds = (await request.form()).getall("kinds", [])
    return {**posted, "url": posted["url"].strip()}, [kind for kind in kinds if isinstance(kind, str)]


def _wrong(request: MemberRequest, posted: dict[str, str], error: Invalid | Conflict) -> Form:
    field = error.param if error.param in {"url", "kinds", "description"} else WHOLE_FORM
    return Form(posted, {field: translate(request, PROBLEMS.get(error.param or error.code, PROBLEMS["url"]))})


def _show_secret(request: MemberRequest, made: MadeEndpoint) -> Response[bytes]:
    return page(request, "portal/webhook_secret.html", status=HTTPStatus.CREATED, made=made)


def _back(request: MemberRequest, webhook_id: str, text: str, colour: str = "green") -> Response[Any]:
    path = f"/webhooks/{encode_id(WEBHOOK, read_webhook_id(webhook_id))}" if webhook_id else "/webhooks"
    response = Redirect(path, status_code=_SEE_OTHER)
    flash(response, translate(request, text), colour)
    return response
