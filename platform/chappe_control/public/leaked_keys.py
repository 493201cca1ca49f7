"""Where anybody reports a key that they found in a repository, a log, a chat. Its text is the right to end it."""

from http import HTTPStatus
from typing import Annotated, Any

from litestar import Request, post
from litestar.params import JSONBody
from msgspec import Meta, Struct

from chappe_control.origins import source_of
from chappe_control.public import answers
from chappe_control.state import Given, Services
from chappe_control.throttle import client_of
from chappe_store.audit_log.origin import ActorKind, Origin
from chappe_store.session import NOBODY
from chappe_tenants.api_keys.leaks import end_leaked, find_leak

MAX_TEXT_LENGTH = 200
_ACTOR = "whoever had its text"


class ReportLeak(Struct, frozen=True, forbid_unknown_fields=True):
    key: Annotated[str, Meta(max_length=MAX_TEXT_LENGTH, description="The whole text of the key.")]


class ReportTaken(Struct, frozen=True):
    status: Annotated[str, Meta(description="Always `taken`: it says nothing of whether there is such a key.")]


_TAKEN = ReportTaken(status="taken")


@post(
    "/leaked-keys",
    tags=["API keys"],
    summary="Report a leaked key",
    operation_id="report_leaked_key",
    responses=answers.REPORT,
    status_code=HTTPStatus.ACCEPTED,
)
async def report_leaked_key(
    request: Request[Any, Any, Any], services: Given, data: JSONBody[ReportLeak]
) -> ReportTaken:
    """Takes no authentication. A key or browser token of ours is revoked at once, and its organisation sees in its
    audit log that it was reported. The answer is always the same. A repeat changes nothing."""
    await services.throttle.count("leaks", client_of(request), services.settings.leak_reports_per_minute)
    # Named whether anything changes or not: the answer tells who has an origin by its `x-request-id`.
    origin = source_of(request).origin(ActorKind.LEAK_REPORT, _ACTOR)
    await _end(services, data.key, origin)
    return _TAKEN


async def _end(services: Services, text: str, origin: Origin) -> None:
    async with services.database.tenant(NOBODY) as session:
        leak = await find_leak(session, text, services.peppers)
    if leak is not None:
        async with services.database.tenant(leak.scope, origin) as session:
            await end_leaked(session, leak)
