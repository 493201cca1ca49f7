"""`/tmf-api/usageManagement/v4`: usages, and the specifications that they are of. Read-only: usage is made by using."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, Router, get
from litestar.datastructures import ResponseHeader
from litestar.params import PathParameter, QueryParameter

from chappe_billing.feed.listing import find_record, list_records
from chappe_billing.feed.wanted import Wanted
from chappe_control.authentication import OperatorRequest, require_operator_caller
from chappe_control.operator_api.router import CONSOLE_SESSION, OPERATOR_TOKEN
from chappe_control.permissions import Permission, require_permission
from chappe_control.public import answers
from chappe_control.state import Given
from chappe_control.tmf.schemas import BASE_PATH, SPECIFICATIONS, Usage, UsageSpecification, encoder, show_usage
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import TENANT, decode_id

_TAG = "TMF635 usage management"
_JSON = "application/json"
_MAX_LIMIT = 1_000
_MAX_OFFSET = 2**40
_ALWAYS = ("id", "href")

_HEADERS = [
    ResponseHeader("X-Total-Count", description="How many there are.", documentation_only=True),
    ResponseHeader("X-Result-Count", description="How many of them are in this answer.", documentation_only=True),
]
Offset = Annotated[int, QueryParameter(ge=0, le=_MAX_OFFSET, description="How many to leave out at the beginning.")]
Limit = Annotated[int, QueryParameter(ge=1, le=_MAX_LIMIT, description="How many to return at most.")]
Fields = Annotated[
    str | None,
    QueryParameter(
        max_length=500, description="First-level attributes, with commas; `id` and `href` are always there."
    ),
]
Batch = Annotated[
    int | None, QueryParameter(name="batch", ge=1, le=2**63 - 1, description="In the batch of this number.")
]
Party = Annotated[
    str | None, QueryParameter(name="relatedParty.id", max_length=100, description="Of this tenant, `ten_…`.")
]
Kind = Annotated[str | None, QueryParameter(name="usageType", max_length=100, description="Of this kind.")]
From = Annotated[datetime | None, QueryParameter(name="usageDate.gte", description="Posted at this time or later.")]
After = Annotated[datetime | None, QueryParameter(name="usageDate.gt", description="Posted later than this.")]
Before = Annotated[datetime | None, QueryParameter(name="usageDate.lt", description="Posted before this.")]
Until = Annotated[datetime | None, QueryParameter(name="usageDate.lte", description="Posted at this time or before.")]

_KNOWN = {
    *("offset", "limit", "fields", "batch", "relatedParty.id", "usageType"),
    *("usageDate.gte", "usageDate.gt", "usageDate.lt", "usageDate.lte"),
}


@get(
    "/usage",
    permission=Permission.SEE_RATED_USAGE,
    tags=[_TAG],
    summary="List usages",
    operation_id="tmf635_list_usage",
    responses=answers.LIST,
    response_headers=_HEADERS,
)
async def list_usage(
    request: OperatorRequest,
    services: Given,
    *,
    offset: Offset = 0,
    limit: Limit = 100,
    fields: Fields = None,
    batch: Batch = None,
    related_party: Party = None,
    usage_type: Kind = None,
    date_from: From = None,
    date_after: After = None,
    date_before: Before = None,
    date_until: Until = None,
) -> Response[list[Usage]]:
    """What is in closed batches, in the feed's order. New batches come at the end, and never shift what is before. A
    filter that is not known is refused: nobody takes all usage for what they asked for."""
    unknown = set(request.query_params) - _KNOWN
    if unknown:
        raise Invalid("there is no such filter", code="unknown_filter", param=min(unknown)[:100])
    wanted = Wanted(
        sequence=batch,
        tenant_id=None if related_party is None else _tenant(related_party),
        kind=usage_type,
        posted_from=_zoned(date_from, "usageDate.gte"),
        posted_after=_zoned(date_after, "usageDate.gt"),
        posted_before=_zoned(date_before, "usageDate.lt"),
        posted_until=_zoned(date_until, "usageDate.lte"),
    )
    async with services.database.audit() as session:
        total, placed = await list_records(session, wanted, offset=offset, limit=limit)
    shown = _select([show_usage(each) for each in placed], fields)
    return Response(
        encoder.encode(shown),  # type: ignore[arg-type]  # encoded here, with exact numbers
        media_type=_JSON,
        headers={"x-total-count": str(total), "x-result-count": str(len(shown))},
    )


@get(
    "/usage/{usage_id:str}",
    permission=Permission.SEE_RATED_USAGE,
    tags=[_TAG],
    summary="Read a usage",
    operation_id="tmf635_get_usage",
    responses=answers.READ_ONE,
)
async def read_usage(
    services: Given,
    usage_id: Annotated[str, PathParameter(max_length=100, description="A request's or a ledger transaction's id.")],
    fields: Fields = None,
) -> Response[Usage]:
    """Once it is in a closed batch."""
    async with services.database.audit() as session:
        placed = await find_record(session, usage_id)
    if placed is None:
        raise NotFound("no such usage")
    (shown,) = _select([show_usage(placed)], fields)
    return Response(encoder.encode(shown), media_type=_JSON)  # type: ignore[arg-type]  # the same


@get(
    "/usageSpecification",
    permission=Permission.SEE_RATED_USAGE,
    tags=[_TAG],
    summary="List usage specifications",
    operation_id="tmf635_list_usage_specifications",
    responses=answers.LIST,
    response_headers=_HEADERS,
)
async def list_specifications(offset: Offset = 0, limit: Limit = 100) -> Response[list[UsageSpecification]]:
    """What the characteristics of usages mean."""
    found = list(SPECIFICATIONS.values())[offset : offset + limit]
    return Response(found, headers={"x-total-count": str(len(SPECIFICATIONS)), "x-result-count": str(len(found))})


@get(
    "/usageSpecification/{specification_id:str}",
    permission=Permission.SEE_RATED_USAGE,
    tags=[_TAG],
    summary="Read a usage specification",
    operation_id="tmf635_get_usage_specification",
    responses=answers.READ_ONE,
)
async def read_specification(
    specification_id: Annotated[str, PathParameter(max_length=100, description="`inference` or `accountMovement`.")],
) -> UsageSpecification:
    """What the characteristics of such a usage mean."""
    found = SPECIFICATIONS.get(specification_id)
    if found is None:
        raise NotFound("no such usage specification")
    return found


def make_router() -> Router:
    return Router(
        BASE_PATH,
        route_handlers=[list_usage, read_usage, list_specifications, read_specification],
        guards=[require_operator_caller, require_permission],
        security=[{OPERATOR_TOKEN: []}, {CONSOLE_SESSION: []}],
    )


def _select(shown: Sequence[Usage], fields: str | None) -> list[Any]:
    """Only these attributes. Raises `Invalid` for one that no usage has."""
    if not fields:
        return list(shown)
    wanted = {*_ALWAYS, *(name.strip() for name in fields.split(","))}
    known = set(Usage.__struct_encode_fields__)
    if wanted - known:
        raise Invalid("a usage has no such attribute", code="unknown_field", param="fields")
    return [
        {name: value for name, value in msgspec.to_builtins(each, builtin_types=(datetime,)).items() if name in wanted}
        for each in shown
    ]


def _tenant(text: str) -> Any:
    try:
        return decode_id(TENANT, text)
    except Invalid as error:
        raise Invalid(error.message, code=error.code, param="relatedParty.id") from None


def _zoned(at: datetime | None, param: str) -> datetime | None:
    if at is not None and at.tzinfo is None:
        raise Invalid(f"{param} needs a time zone, like 2026-11-22T10:00:00Z", param=param)
    return at
