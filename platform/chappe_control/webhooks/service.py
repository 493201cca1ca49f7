"""What happens to endpoints, and how an event gets on its way."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.webhooks import queries
from chappe_control.webhooks.kinds import CHOOSABLE, EventKind
from chappe_control.webhooks.models import WebhookEndpoint
from chappe_control.webhooks.schedule import OLD_SECRET_FOR
from chappe_control.webhooks.sealing import SecretSeal
from chappe_control.webhooks.signing import new_secret, show_secret
from chappe_control.webhooks.target import parse_target
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import TENANT, encode_id, new_id
from chappe_store import outbox
from chappe_store.outbox import Message
from chappe_store.queries import read_now
from chappe_store.session import TenantScope

TOPIC: Final = "webhook"
MAX_ENDPOINTS: Final = 20
_MAX_DESCRIPTION: Final = 200


class EndpointOrder(Struct, frozen=True):
    """What an endpoint shall be; whatever is not set stays."""

    url: str | UnsetType = UNSET
    kinds: Sequence[str] | UnsetType = UNSET
    description: str | UnsetType = UNSET


class MadeEndpoint(Struct, frozen=True):
    """`secret` is shown this once."""

    endpoint: WebhookEndpoint
    secret: str


async def create_endpoint(
    session: AsyncSession, scope: TenantScope, seal: SecretSeal, order: EndpointOrder, *, to_loopback: bool
) -> MadeEndpoint:
    """Raises `Invalid`, and `Conflict` for one too many. That its name leads to public addresses is checked each time
    something is sent there, and at no other: in between it may lead elsewhere."""
    if order.url is UNSET or order.kinds is UNSET:
        raise Invalid("an endpoint needs a url and kinds", param="url" if order.url is UNSET else "kinds")
    if await queries.count_endpoints(session, scope) >= MAX_ENDPOINTS:
        raise Conflict(f"an organisation has at most {MAX_ENDPOINTS} webhooks", code="too_many_webhooks")
    endpoint_id, secret = new_id(), new_secret()
    values = {"description": "", **_columns(order, to_loopback=to_loopback)}
    await queries.insert_endpoint(session, scope, endpoint_id, secret=seal.close(secret, endpoint_id), **values)
    return MadeEndpoint(await get_endpoint(session, scope, endpoint_id), show_secret(secret))


async def get_endpoint(
    session: AsyncSession, scope: TenantScope, endpoint_id: UUID, *, lock: bool = False
) -> WebhookEndpoint:
    """Raises `NotFound`, also for another tenant's and for one that was removed."""
    found = await queries.read_endpoint(session, scope, endpoint_id, lock=lock)
    if found is None:
        raise NotFound("no such webhook")
    return found


async def change_endpoint(
    session: AsyncSession, scope: TenantScope, endpoint: WebhookEndpoint, order: EndpointOrder, *, to_loopback: bool
) -> WebhookEndpoint:
    """`endpoint` is locked. Raises `Invalid`."""
    values = _columns(order, to_loopback=to_loopback)
    if values:
        await queries.update_endpoint(session, scope.tenant_id, endpoint.id, values)
    return await get_endpoint(session, scope, endpoint.id)


async def set_enabled(session: AsyncSession, scope: TenantScope, endpoint: WebhookEndpoint, *, enabled: bool) -> None:
    """`endpoint` is locked. One that is enabled is tried anew, as if it had never failed; to one that is disabled
    nothing goes, what waits for it included."""
    if enabled == (endpoint.disabled_at is None):
        return
    disabled = {"disabled_at": func.now(), "disabled_reason": "by_hand"}
    values = {"disabled_at": None, "disabled_reason": None, "failing_since": None} if enabled else disabled
    await queries.update_endpoint(session, scope.tenant_id, endpoint.id, values)


async def rotate_secret(
    session: AsyncSession, scope: TenantScope, seal: SecretSeal, endpoint: WebhookEndpoint
) -> MadeEndpoint:
    """`endpoint` is locked. Its present secret signs beside the new one for a day; the one before that no more."""
    secret = new_secret()
    values = {
        "secret": seal.close(secret, endpoint.id),
        "old_secret": endpoint.secret,
        "old_secret_until": func.now() + OLD_SECRET_FOR,
    }
    await queries.update_endpoint(session, scope.tenant_id, endpoint.id, values)
    return MadeEndpoint(await get_endpoint(session, scope, endpoint.id), show_secret(secret))


async def remove_endpoint(session: AsyncSession, scope: TenantScope, endpoint: WebhookEndpoint) -> None:
    """`endpoint` is locked. What waits for it is not sent any more."""
    await queries.update_endpoint(session, scope.tenant_id, endpoint.id, {"removed_at": func.now()})


async def send_test(session: AsyncSession, scope: TenantScope, endpoint: WebhookEndpoint) -> UUID:
    """The delivery of an event of the kind `test`. Raises `Conflict` for an endpoint that is disabled."""
    _check_open(endpoint)
    event_id = new_id()
    body = write_body(EventKind.TEST, await read_now(session), scope.tenant_id, {})
    await queries.insert_event(session, scope.tenant_id, event_id, kind=EventKind.TEST, body=body)
    return await _dispatch(session, scope.tenant_id, endpoint.id, event_id)


async def redeliver(session: AsyncSession, scope: TenantScope, endpoint: WebhookEndpoint, delivery_id: UUID) -> UUID:
    """The same event, under the same id, sent again. Raises `NotFound`, and `Conflict` for an endpoint that is
    disabled or a delivery that has not ended."""
    _check_open(endpoint)
    found = await queries.read_delivery(session, scope, endpoint.id, delivery_id)
    if found is None:
        raise NotFound("no such delivery")
    if found.state == "waiting":
        raise Conflict("it is still being tried", code="still_waiting")
    return await _dispatch(session, scope.tenant_id, endpoint.id, found.event_id, redelivers=delivery_id)


async def publish(
    session: AsyncSession, tenant_id: UUID, event_id: UUID, kind: EventKind, data: Mapping[str, Any]
) -> int:
    """As the operator: an event on its way to every endpoint that asks for its kind; to how many. `event_id` is the
    caller's, so that a repeat is refused by the database and not sent."""
    endpoints = await queries.endpoints_that_ask_for(session, tenant_id, kind)
    if endpoints:
        body = write_body(kind, await read_now(session), tenant_id, data)
        await queries.insert_event(session, tenant_id, event_id, kind=kind, body=body)
    for endpoint_id in endpoints:
        await _dispatch(session, tenant_id, endpoint_id, event_id)
    return len(endpoints)


def write_body(kind: EventKind, at: datetime, tenant_id: UUID, data: Mapping[str, Any]) -> str:
    """As Standard Webhooks would have it: what happened, when, and about what."""
    told = {
        "type": kind,
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "data": {"tenant_id": encode_id(TENANT, tenant_id), **data},
    }
    return msgspec.json.encode(told).decode()


async def _dispatch(
    session: AsyncSession, tenant_id: UUID, endpoint_id: UUID, event_id: UUID, *, redelivers: UUID | None = None
) -> UUID:
    delivery_id = new_id()
    await queries.insert_delivery(
        session, tenant_id, delivery_id, endpoint_id=endpoint_id, event_id=event_id, redelivers=redelivers
    )
    await outbox.enqueue_as(session, [Message(delivery_id, TOPIC, {})])
    return delivery_id


def _check_open(endpoint: WebhookEndpoint) -> None:
    if endpoint.disabled_at is not None:
        raise Conflict("the webhook is disabled: enable it first", code="webhook_disabled")


def _columns(order: EndpointOrder, *, to_loopback: bool) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if order.url is not UNSET:
        parse_target(order.url, to_loopback=to_loopback)
        values["url"] = order.url
    if order.kinds is not UNSET:
        values["kinds"] = _clean_kinds(order.kinds)
    if order.description is not UNSET:
        text = order.description.strip()
        if len(text) > _MAX_DESCRIPTION or not text.isprintable():
            raise Invalid(f"description has at most {_MAX_DESCRIPTION} characters of one line", param="description")
        values["description"] = text
    return values


def _clean_kinds(kinds: Sequence[str]) -> list[str]:
    """In one order, so that two ways to write a set are one state."""
    if not kinds or not set(kinds) <= set(CHOOSABLE):
        raise Invalid(f"kinds names at least one of: {', '.join(CHOOSABLE)}", code="invalid_kind", param="kinds")
    return [kind for kind in CHOOSABLE if kind in kinds]
