"""`/requests`: the log, and a page for each request."""

from http import HTTPStatus
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.params import PathParameter

from chappe_billing.request_log.queries import SEARCHED
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.render import page
from chappe_control.permissions import Permission
from chappe_control.portal.requests.log_query import LIMITS, LogQuery, read_log_query
from chappe_control.portal.requests.service import Choices, LogPage, read_choices, read_page, read_request
from chappe_control.state import Given
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import REQUEST, RequestId, decode_id
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]

# What is wrong with the address, by the parameter that is to blame.
_PROBLEMS = {
    "model": N_("There is no such model."),
    "region": N_("There is no such region."),
    "key": N_("There is no such API key in your organisation."),
    "outcome": N_("There is no such outcome."),
    "sort": N_("Requests can be sorted by time only."),
    "order": N_("The order is either asc or desc."),
    "limit": N_("A page has 25, 50 or 100 requests."),
    "cursor": N_("This link to a page of the log is incomplete."),
}


@get("/requests", include_in_schema=False, permission=Permission.READ_USAGE)
async def list_requests(request: MemberRequest, services: Given) -> Response[bytes]:
    scope = request.auth.scope
    problem, query, found = None, LogQuery(), LogPage([], None, None)
    try:
        query = read_log_query(request.query_params)
    except Invalid as error:
        problem = error.param
    async with services.database.tenant_snapshot(scope) as session:
        choices = await read_choices(session, scope, query.key_id)
        if problem is None:
            try:
                found = await read_page(session, scope, query, choices)
            except Invalid as error:
                problem = error.param
    return _log(request, query, choices, found, problem)


@get("/requests/{request_id:str}", include_in_schema=False, permission=Permission.READ_USAGE)
async def show_request(
    request: MemberRequest, services: Given, request_id: Annotated[str, PathParameter()]
) -> Response[bytes]:
    try:
        wanted = RequestId(decode_id(REQUEST, request_id))
    except Invalid:
        raise NotFound("no such request") from None
    scope = request.auth.scope
    async with services.database.tenant_snapshot(scope) as session:
        found = await read_request(session, scope, wanted)
    return page(request, "portal/request.html", found=found, record=found.record)


def _log(
    request: MemberRequest, query: LogQuery, choices: Choices, found: LogPage, problem: str | None
) -> Response[bytes]:
    text = None if problem is None else translate(request, _PROBLEMS[problem])
    return page(
        request,
        "portal/requests.html",
        status=HTTPStatus.OK if problem is None else HTTPStatus.BAD_REQUEST,
        log=found,
        wanted=query,
        choices=choices,
        models=[(name, name) for name in choices.listings],
        regions=[(name, name) for name in choices.regions],
        limits=[(limit, str(limit)) for limit in LIMITS],
        searched=SEARCHED,
        problem=text,
    )
