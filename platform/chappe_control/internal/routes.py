"""`/internal/v1`. Every call acts for the region whose credential it carries, and for no other."""

from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, get, post, put
from litestar.datastructures import State
from litestar.params import FromPath, JSONBody, QueryParameter

from chappe_billing.grants.service import return_grant
from chappe_billing.restoring.service import keep_grant
from chappe_billing.usage.service import ingest
from chappe_catalogue.deployments import service as deployments
from chappe_catalogue.regions import queries as regions
from chappe_catalogue.regions.service import MAX_REVISION, beat
from chappe_control.authentication import RegionGuard
from chappe_control.bodies import check_body
from chappe_control.internal.lending import MAX_WAIT_S, lend
from chappe_control.origins import origin_of
from chappe_control.snapshot import read_contract_prices
from chappe_control.state import Given
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.networks import parse_network
from chappe_kernel.wire import control as wire
from chappe_tenants.api_keys import queries as api_keys
from chappe_tenants.api_keys.queries import KeyUse
from chappe_tenants.api_keys.service import resolve
from chappe_tenants.content_terms.service import content_terms
from chappe_tenants.peppers import MAX_PEPPERS

# A full batch of events with the longest numbers takes about 5 MiB.
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_BATCH_EVENTS = 5000
MAX_NANO = 2**62
MAX_GATEWAY_NAME_LENGTH = 100
MAX_EPOCH_LENGTH = 100
MAX_HOLDERS = 1000
MAX_CURSOR_LENGTH = 60
# Five levels say something of all models and of one.
MAX_BUDGETS = 10

RegionRequest = Request[Any, str, State]
Since = Annotated[int, QueryParameter(ge=0, le=MAX_REVISION)]
Epoch = Annotated[str, QueryParameter(max_length=MAX_EPOCH_LENGTH)]
GatewayName = Annotated[str, QueryParameter(min_length=1, max_length=MAX_GATEWAY_NAME_LENGTH)]
Cursor = Annotated[str, QueryParameter(max_length=MAX_CURSOR_LENGTH)]
WaitSeconds = Annotated[float, QueryParameter(ge=0, le=MAX_WAIT_S)]


@get("/snapshot")
async def read_snapshot(request: RegionRequest, services: Given) -> Response[bytes]:
    snapshot = await services.snapshots.current()
    etag = f'"{snapshot.version}"'
    headers = {"etag": etag, wire.DATABASE_TIME: services.snapshots.database_time().isoformat()}
    asked = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if etag in asked:
        return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(snapshot.body, media_type="application/json", headers=headers)


@get("/deployments")
async def list_deployments(request: RegionRequest, services: Given) -> list[wire.DeploymentSpec]:
    async with services.database.ingest() as session:
        return await deployments.wanted_deployments(session, request.auth)


@post("/deployments/status", status_code=HTTPStatus.NO_CONTENT)
async def report_deployments(
    request: RegionRequest, services: Given, data: JSONBody[list[wire.DeploymentStatus]]
) -> None:
    async with services.database.ingest(origin_of(request)) as session:
        await deployments.report_statuses(session, request.auth, data)


@post("/heartbeat", status_code=HTTPStatus.NO_CONTENT)
async def heartbeat(request: RegionRequest, services: Given, data: JSONBody[wire.Heartbeat]) -> None:
    async with services.database.ingest(origin_of(request)) as session:
        await beat(session, region=request.auth, heartbeat=data)


@get("/keys/changes")
async def read_key_changes(services: Given, since: Since, epoch: Epoch = "") -> wire.KeyChanges:
    return await services.key_feed.since(since, epoch)


@post("/keys/resolve", status_code=HTTPStatus.OK)
async def resolve_key(request: RegionRequest, services: Given, data: JSONBody[wire.ResolveKey]) -> wire.KeyFacts:
    if not 1 <= len(data.digests) <= MAX_PEPPERS:
        raise Invalid(f"digests must have 1 to {MAX_PEPPERS} entries", param="digests")
    async with services.database.ingest() as session:
        facts = await resolve(session, data.digests, await regions.read_jurisdictions(session))
        if facts is None:
            raise NotFound("there is no such API key", code="invalid_api_key")
        since = services.clock.now() - timedelta(seconds=services.settings.snapshot_max_age_s)
        prices = await read_contract_prices(session, facts.tenant_id, request.auth, since)
    return msgspec.structs.replace(facts, prices=prices)


@post("/content/terms", status_code=HTTPStatus.OK)
async def read_content_terms(
    request: RegionRequest, services: Given, data: JSONBody[wire.AskContentTerms]
) -> list[wire.ContentTerms]:
    if len(data.holders) > MAX_HOLDERS:
        raise Invalid(f"holders must have at most {MAX_HOLDERS} entries", param="holders")
    async with services.database.ingest() as session:
        jurisdictions = await regions.read_jurisdictions(session)
        return await content_terms(session, request.auth, data.holders, jurisdictions)


@post("/grants", status_code=HTTPStatus.OK)
async def grant(request: RegionRequest, services: Given, data: JSONBody[wire.AskGrant]) -> wire.Grant:
    _check_gateway(data.gateway)
    if not 0 <= data.minimum_nano <= data.wanted_nano <= MAX_NANO:
        raise Invalid("0 ≤ minimum_nano ≤ wanted_nano must hold", param="wanted_nano")
    if not 0 <= (data.needed_nano or 0) <= MAX_NANO:
        raise Invalid("needed_nano must not be negative", param="needed_nano")
    if len(data.budgets) > MAX_BUDGETS:
        raise Invalid(f"a grant keeps to at most {MAX_BUDGETS} monthly budgets", param="budgets")
    return await lend(services, request.auth, data, origin_of(request))


@put("/grants/{grant_id:uuid}/returned", status_code=HTTPStatus.NO_CONTENT)
async def give_back(
    request: RegionRequest, services: Given, grant_id: FromPath[UUID], data: JSONBody[wire.ReturnGrant]
) -> None:
    if not 0 <= data.returned_nano <= MAX_NANO:
        raise Invalid("returned_nano must not be negative", param="returned_nano")
    async with services.database.ingest(origin_of(request)) as session:
        tenant_id = await return_grant(
            session, region=request.auth, grant_id=grant_id, returned_nano=data.returned_nano
        )
    services.shortages.came_back([tenant_id])


@get("/grants/recalls")
async def read_recalls(
    request: RegionRequest, services: Given, gateway: GatewayName, cursor: Cursor = "", wait_s: WaitSeconds = 0.0
) -> wire.Recalls:
    return await services.shortages.recalls_of((request.auth, gateway), cursor, wait_s)


@put("/grants/{grant_id:uuid}/kept", status_code=HTTPStatus.NO_CONTENT)
async def keep(
    request: RegionRequest, services: Given, grant_id: FromPath[UUID], data: JSONBody[wire.KeptGrant]
) -> None:
    _check_gateway(data.gateway)
    if len(data.budgets) > MAX_BUDGETS:
        raise Invalid(f"a grant keeps to at most {MAX_BUDGETS} monthly budgets", param="budgets")
    async with services.database.ingest(origin_of(request)) as session:
        await keep_grant(session, region=request.auth, grant_id=grant_id, kept=data)


@post("/usage", status_code=HTTPStatus.OK)
async def post_usage(request: RegionRequest, services: Given, data: JSONBody[wire.UsageBatch]) -> wire.UsageReceipt:
    _check_gateway(data.gateway)
    if len(data.events) > MAX_BATCH_EVENTS:
        raise Invalid(f"a batch has at most {MAX_BATCH_EVENTS} events", code="batch_too_large", param="events")
    async with services.database.ingest(origin_of(request)) as session:
        receipt = await ingest(session, region=request.auth, batch=data)
        await api_keys.touch_keys(session, last_uses(data.events, request.auth))
    services.shortages.came_back({event.tenant_id for event in data.events})
    return receipt


def last_uses(events: Sequence[wire.UsageEvent], region: str) -> dict[tuple[UUID, UUID], KeyUse]:
    """By tenant and key. A batch is in no order that matters."""
    return {
        (event.tenant_id, event.key_id): KeyUse(event.finished_at, region, _network(event.client_network))
        for event in sorted(events, key=lambda event: event.finished_at)
    }


def _network(text: str | None) -> str | None:
    """A gateway is believed about its own clients, and about what a network is it is not: it goes onto pages."""
    if text is None:
        return None
    try:
        return parse_network(text)
    except Invalid:
        return None


def _check_gateway(name: str) -> None:
    if not 1 <= len(name) <= MAX_GATEWAY_NAME_LENGTH or not name.isprintable():
        raise Invalid(f"gateway must have 1 to {MAX_GATEWAY_NAME_LENGTH} printable characters", param="gateway")


def make_router() -> Router:
    return Router(
        "/internal/v1",
        route_handlers=[
            read_snapshot,
            list_deployments,
            report_deployments,
            heartbeat,
            read_key_changes,
            resolve_key,
            read_content_terms,
            grant,
            give_back,
            keep,
            read_recalls,
            post_usage,
        ],
        guards=[RegionGuard()],
        before_request=check_body,
        include_in_schema=False,
        request_max_body_size=MAX_BODY_BYTES,
    )
