"""`/playground` and what its script asks of the portal: a token, the offers, and what a request came to.

Prompts and completions never come here: the browser sends them to the regional gateway, and gets them from there.
"""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import PathParameter
from msgspec import Struct

from chappe_billing.request_log.queries import find_request
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.origins import origin_of
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.portal.playground.service import (
    Offers,
    gateway_origins,
    playground_project_id,
    read_offers,
    read_regions_allowed,
)
from chappe_control.state import Given, Services
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import REQUEST, RequestId, decode_id
from chappe_kernel.rating import Outcome
from chappe_kernel.wire import control as wire
from chappe_tenants.browser_tokens.service import IssuedToken, issue_token
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]


class SettledRequest(Struct, frozen=True):
    """What a request came to, once it is posted. `amount_nano` is exact, as a decimal string."""

    settled: bool
    outcome: Outcome | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    amount_nano: str = "0"


@get("/playground", include_in_schema=False, permission=Permission.USE_PLAYGROUND)
async def show_playground(request: MemberRequest, services: Given) -> Response[bytes]:
    allowed, offers = await _read(request, services)
    return page(
        request,
        "portal/playground.html",
        # All of them: the page must not be reloaded because a region has recovered.
        connect_to=gateway_origins(allowed),
        offers=offers,
        offers_json=msgspec.json.encode(offers).decode(),
    )


@get("/playground/offers", include_in_schema=False, permission=Permission.USE_PLAYGROUND)
async def list_offers(request: MemberRequest, services: Given) -> Offers:
    """The same as the page was made from, as of now: a page stays open while prices and health change."""
    _, offers = await _read(request, services)
    return offers


@post("/playground/token", include_in_schema=False, permission=Permission.USE_PLAYGROUND)
async def create_token(request: MemberRequest, services: Given) -> IssuedToken:
    """What the browser calls the gateways with for the next minutes. It is shown this once."""
    visitor = request.auth
    async with services.database.tenant(visitor.scope, origin_of(request)) as session:
        return await issue_token(
            session,
            visitor,
            await playground_project_id(session, visitor.scope),
            peppers=services.peppers,
            jurisdiction_of=await read_jurisdictions(session),
        )


@get("/playground/requests/{request_id:str}", include_in_schema=False, permission=Permission.USE_PLAYGROUND)
async def show_settled(
    request: MemberRequest, services: Given, request_id: Annotated[str, PathParameter(max_length=100)]
) -> SettledRequest:
    """Asked again and again until the request is settled, so that an answer of "not yet" is no error."""
    try:
        wanted = RequestId(decode_id(REQUEST, request_id))
    except Invalid:
        raise NotFound("no such request") from None
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        found = await find_request(session, scope, wanted)
    if found is None:
        return SettledRequest(settled=False)
    return SettledRequest(
        settled=True,
        outcome=found.outcome,
        prompt_tokens=found.counts.prompt_tokens,
        cached_tokens=found.counts.cached_tokens,
        completion_tokens=found.counts.completion_tokens,
        amount_nano=str(found.amount_nano),
    )


async def _read(request: MemberRequest, services: Services) -> tuple[list[wire.Region], Offers]:
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        allowed = await read_regions_allowed(session, scope)
        return allowed, await read_offers(
            session, request.auth.scope, request.auth.currency, allowed, services.clock.now()
        )
