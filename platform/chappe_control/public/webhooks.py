"""Webhooks of the calling tenant: where it is told what, and how that went."""

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, delete, get, patch, post
from litestar.params import JSONBody, PathParameter
from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import MAX_ID_LENGTH, id_in_path
from chappe_control.state import Given
from chappe_control.webhooks import queries, service
from chappe_control.webhooks.kinds import EventKind
from chappe_control.webhooks.models import WebhookEndpoint
from chappe_control.webhooks.queries import LoggedDelivery
from chappe_control.webhooks.service import EndpointOrder
from chappe_kernel.ids import EVENT, WEBHOOK, WEBHOOK_DELIVERY, encode_id

_TAG = "Webhooks"

WebhookPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The webhook's id, `whk_…`.")]
DeliveryPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The delivery's id, `whd_…`.")]
Url = Annotated[
    str, Meta(max_length=2000, description="`https`, a name and no address, port 443 or 8443. It is never redirected.")
]
Kinds = Annotated[list[EventKind], Meta(min_length=1, max_length=len(EventKind), description="What it is told.")]
Description = Annotated[str, Meta(max_length=200)]


class CreateWebhook(Struct, frozen=True, forbid_unknown_fields=True):
    url: Url
    kinds: Kinds
    description: Description = ""


class ChangeWebhook(Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    url: Url | UnsetType = UNSET
    kinds: Kinds | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    enabled: Annotated[bool, Meta(description="`true` tries it anew after it was disabled.")] | UnsetType = UNSET


class WebhookView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^whk_")]
    url: str
    kinds: list[EventKind]
    description: str
    enabled: Annotated[bool, Meta(description="Whether it is told anything.")]
    disabled_reason: Annotated[
        str | None,
        Meta(description="`failing`: nothing was taken for three days; `gone`: it answered 410; `by_hand`."),
    ]
    failing_since: datetime | None
    created_at: datetime


class CreatedWebhook(Struct, frozen=True):
    webhook: WebhookView
    secret: Annotated[str, Meta(description="`whsec_…`, as libraries of Standard Webhooks take it. Not shown again.")]


class WebhookList(Struct, frozen=True):
    items: list[WebhookView]


class DeliveryView(Struct, frozen=True):
    """`status`, `error` and `duration_ms` are of the last try; of answers' bodies nothing is kept."""

    id: Annotated[str, Meta(pattern="^whd_")]
    event_id: Annotated[str, Meta(pattern="^evt_", description="The header `webhook-id`, the same in every try.")]
    kind: EventKind
    state: Annotated[str, Meta(description="`waiting`, `delivered` or `failed`.")]
    attempts: int
    status: int | None
    error: str | None
    duration_ms: int | None
    next_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    redelivers: Annotated[str | None, Meta(description="The delivery that somebody asked to have sent again.")]


class DeliveryList(Struct, frozen=True):
    items: list[DeliveryView]
    next_cursor: str | None


class OrderedDelivery(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^whd_")]


@get(
    "/webhooks",
    permission=Permission.READ_WEBHOOKS,
    tags=[_TAG],
    summary="List webhooks",
    operation_id="list_webhooks",
    responses=answers.READ,
)
async def list_webhooks(request: TenantRequest, services: Given) -> WebhookList:
    """All that there are, newest first: at most twenty."""
    async with services.database.tenant(request.auth.scope) as session:
        return WebhookList([show_webhook(one) for one in await queries.list_endpoints(session, request.auth.scope)])


@post(
    "/webhooks",
    permission=Permission.MANAGE_WEBHOOKS,
    tags=[_TAG],
    summary="Create a webhook",
    operation_id="create_webhook",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def create_webhook(
    request: TenantRequest, services: Given, data: JSONBody[CreateWebhook], idempotency_key: IdempotencyKey = None
) -> CreatedWebhook:
    """Events are signed after Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`) and sent until
    one answer is 2xx, over about a day. Each may come more than once, under the same `webhook-id`, and in any order.

    The answer holds the secret, which is not shown again: a repeat with the same `Idempotency-Key` creates none and
    gets 409 `already_completed`."""
    scope = request.auth.scope
    call = await idempotency.call_of(request)
    order = EndpointOrder(data.url, data.kinds, data.description)
    to_loopback = services.settings.webhooks_to_loopback
    async with services.database.tenant(scope, origin_of(request)) as session:
        await idempotency.begin(session, scope, call)
        made = await service.create_endpoint(session, scope, services.webhook_seal, order, to_loopback=to_loopback)
    return CreatedWebhook(show_webhook(made.endpoint), made.secret)


@get(
    "/webhooks/{webhook_id:str}",
    permission=Permission.READ_WEBHOOKS,
    tags=[_TAG],
    summary="Read a webhook",
    operation_id="get_webhook",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def get_webhook(request: TenantRequest, services: Given, webhook_id: WebhookPath) -> Response[WebhookView]:
    """Without its secret. One that was removed is not found."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        return with_etag(show_webhook(await service.get_endpoint(session, scope, read_webhook_id(webhook_id))))


@patch(
    "/webhooks/{webhook_id:str}",
    permission=Permission.MANAGE_WEBHOOKS,
    tags=[_TAG],
    summary="Change a webhook",
    operation_id="change_webhook",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change_webhook(
    request: TenantRequest,
    services: Given,
    webhook_id: WebhookPath,
    data: JSONBody[ChangeWebhook],
    if_match: IfMatch = None,
) -> Response[WebhookView]:
    """What waits for it goes to the new address."""
    scope, to_loopback = request.auth.scope, services.settings.webhooks_to_loopback
    async with services.database.tenant(scope, origin_of(request)) as session:
        endpoint = await service.get_endpoint(session, scope, read_webhook_id(webhook_id), lock=True)
        check_match(request, show_webhook(endpoint))
        order = EndpointOrder(data.url, data.kinds, data.description)
        await service.change_endpoint(session, scope, endpoint, order, to_loopback=to_loopback)
        if data.enabled is not UNSET:
            await service.set_enabled(session, scope, endpoint, enabled=data.enabled)
        return with_etag(show_webhook(await service.get_endpoint(session, scope, endpoint.id)))


@delete(
    "/webhooks/{webhook_id:str}",
    permission=Permission.MANAGE_WEBHOOKS,
    tags=[_TAG],
    summary="Remove a webhook",
    operation_id="remove_webhook",
    responses=answers.REVOKE,
)
async def remove_webhook(request: TenantRequest, services: Given, webhook_id: WebhookPath) -> None:
    """What waits for it is not sent any more."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        endpoint = await service.get_endpoint(session, scope, read_webhook_id(webhook_id), lock=True)
        await service.remove_endpoint(session, scope, endpoint)


@post(
    "/webhooks/{webhook_id:str}/rotate",
    permission=Permission.MANAGE_WEBHOOKS,
    tags=[_TAG],
    summary="Give a webhook a new secret",
    operation_id="rotate_webhook_secret",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def rotate_secret(
    request: TenantRequest, services: Given, webhook_id: WebhookPath, idempotency_key: IdempotencyKey = None
) -> CreatedWebhook:
    """For a day events are signed with both secrets, so that none is refused while yours takes the new one."""
    scope = request.auth.scope
    call = await idempotency.call_of(request)
    async with services.database.tenant(scope, origin_of(request)) as session:
        await idempotency.begin(session, scope, call)
        endpoint = await service.get_endpoint(session, scope, read_webhook_id(webhook_id), lock=True)
        made = await service.rotate_secret(session, scope, services.webhook_seal, endpoint)
    return CreatedWebhook(show_webhook(made.endpoint), made.secret)


@post(
    "/webhooks/{webhook_id:str}/test",
    permission=Permission.MANAGE_WEBHOOKS,
    tags=[_TAG],
    summary="Send a test event",
    operation_id="test_webhook",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def send_test(
    request: TenantRequest, services: Given, webhook_id: WebhookPath, idempotency_key: IdempotencyKey = None
) -> OrderedDelivery:
    """Of the kind `test`, to this webhook alone. How it went is in the list of deliveries."""
    scope = request.auth.scope
    call = await idempotency.call_of(request)

    async def work(session: AsyncSession) -> OrderedDelivery:
        endpoint = await service.get_endpoint(session, scope, read_webhook_id(webhook_id), lock=True)
        return OrderedDelivery(encode_id(WEBHOOK_DELIVERY, await service.send_test(session, scope, endpoint)))

    async with services.database.tenant(scope, origin_of(request)) as session:
        return await idempotency.once(session, scope, call, OrderedDelivery, partial(work, session))


@get(
    "/webhooks/{webhook_id:str}/deliveries",
    permission=Permission.READ_WEBHOOKS,
    tags=[_TAG],
    summary="List a webhook's deliveries",
    operation_id="list_webhook_deliveries",
    responses=answers.READ_ONE,
)
async def list_deliveries(
    request: TenantRequest,
    services: Given,
    webhook_id: WebhookPath,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> DeliveryList:
    """Newest first, of the last thirty days."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        endpoint = await service.get_endpoint(session, scope, read_webhook_id(webhook_id))
        rows = await queries.list_deliveries(session, scope, endpoint.id, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    return DeliveryList([_show_delivery(row) for row in page], next_cursor)


@post(
    "/webhooks/{webhook_id:str}/deliveries/{delivery_id:str}/redeliver",
    permission=Permission.MANAGE_WEBHOOKS,
    tags=[_TAG],
    summary="Send a delivery again",
    operation_id="redeliver_webhook",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def redeliver(
    request: TenantRequest,
    services: Given,
    webhook_id: WebhookPath,
    delivery_id: DeliveryPath,
    idempotency_key: IdempotencyKey = None,
) -> OrderedDelivery:
    """The same event under the same `webhook-id`, whatever became of it before."""
    scope = request.auth.scope
    call = await idempotency.call_of(request)

    async def work(session: AsyncSession) -> OrderedDelivery:
        endpoint = await service.get_endpoint(session, scope, read_webhook_id(webhook_id), lock=True)
        again = await service.redeliver(session, scope, endpoint, read_delivery_id(delivery_id))
        return OrderedDelivery(encode_id(WEBHOOK_DELIVERY, again))

    async with services.database.tenant(scope, origin_of(request)) as session:
        return await idempotency.once(session, scope, call, OrderedDelivery, partial(work, session))


def read_webhook_id(text: str) -> UUID:
    """Raises `NotFound`."""
    return id_in_path(WEBHOOK, text, "webhook")


def read_delivery_id(text: str) -> UUID:
    """Raises `NotFound`."""
    return id_in_path(WEBHOOK_DELIVERY, text, "delivery")


def show_webhook(endpoint: WebhookEndpoint) -> WebhookView:
    return WebhookView(
        id=encode_id(WEBHOOK, endpoint.id),
        url=endpoint.url,
        kinds=[EventKind(kind) for kind in endpoint.kinds],
        description=endpoint.description,
        enabled=endpoint.disabled_at is None,
        disabled_reason=endpoint.disabled_reason,
        failing_since=endpoint.failing_since,
        created_at=endpoint.created_at,
    )


def _show_delivery(row: LoggedDelivery) -> DeliveryView:
    return DeliveryView(
        id=encode_id(WEBHOOK_DELIVERY, row.id),
        event_id=encode_id(EVENT, row.event_id),
        kind=EventKind(row.kind),
        state=row.state,
        attempts=row.attempts,
        status=row.status,
        error=row.error,
        duration_ms=row.duration_ms,
        next_at=row.next_at,
        created_at=row.created_at,
        ended_at=row.ended_at,
        redelivers=None if row.redelivers is None else encode_id(WEBHOOK_DELIVERY, row.redelivers),
    )
