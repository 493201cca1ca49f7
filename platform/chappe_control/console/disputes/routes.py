"""`/console/disputes`: what two witnesses tell differently, and what could not be posted."""

from collections.abc import Awaitable
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from chappe_billing.discrepancies.queries import list_newest
from chappe_billing.discrepancies.service import resolve_discrepancy
from chappe_billing.quarantine import service as quarantine
from chappe_billing.quarantine.queries import list_quarantined
from chappe_billing.usage.checking import MAX_AMOUNT_NANO
from chappe_control.console.disputes.texts import CODES, KINDS, OUTCOMES
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.console.tenants.queries import read_tenant_names
from chappe_control.operator_api.quarantine import read_digest
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.permissions import Permission
from chappe_control.public.references import id_in_path
from chappe_control.state import Given
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import DISCREPANCY, REQUEST
from chappe_store.queries import read_now

# The framework's type wants the numbers themselves.
_SEE_OTHER: Final = 303
SHOWN = 100
"""The newest of each queue. What was decided makes room for the next."""


@get("/disputes", permission=Permission.SEE_QUEUES)
async def show_disputes(request: ConsoleRequest, services: Given) -> Response[bytes]:
    async with services.database.audit() as session:
        now = await read_now(session)
        discrepancies = await list_newest(session, resolved=False, limit=SHOWN)
        quarantined = await list_quarantined(session, decided=False, limit=SHOWN)
        tenant_ids = {row.tenant_id for row in discrepancies} | {row.tenant_id for row in quarantined}
        names = await read_tenant_names(session, tenant_ids)
    return console_page(
        request,
        "console/disputes.html",
        now=now,
        discrepancies=discrepancies,
        quarantined=quarantined,
        names=names,
        max_amount_nano=MAX_AMOUNT_NANO,
        shown=SHOWN,
        kinds=KINDS,
        outcomes=OUTCOMES,
        codes=CODES,
    )


@post("/disputes/discrepancies/{discrepancy_id:str}", permission=Permission.WORK_QUEUES)
async def resolve(request: ConsoleRequest, services: Given, discrepancy_id: FromPath[str]) -> Response[Any]:
    """With `decision` correct the tenant gets back what it paid more than the other witness says."""
    found = id_in_path(DISCREPANCY, discrepancy_id, "discrepancy")
    posted = await read_fields(request, "reason", "decision")

    async def work() -> None:
        async with services.database.operator(origin_of(request)) as session:
            await resolve_discrepancy(session, found, reason=posted["reason"], correct=posted["decision"] == "correct")

    return await _decided(request, work(), N_("The discrepancy is resolved."))


@post("/disputes/quarantine/{request_id:str}/{digest:str}", permission=Permission.WORK_QUEUES)
async def decide(
    request: ConsoleRequest, services: Given, request_id: FromPath[str], digest: FromPath[str]
) -> Response[Any]:
    """`decision` is to accept the event as it came, to correct its amount by the price book, or to write it off."""
    found, version = id_in_path(REQUEST, request_id, "event in quarantine"), read_digest(digest)
    posted = await read_fields(request, "reason", "decision")

    async def work() -> None:
        # Usage is posted by those who post it always: in a region's role, and by this person in the audit log.
        async with services.database.ingest(origin_of(request)) as session:
            match posted["decision"]:
                case "accept":
                    await quarantine.accept(session, found, version, reason=posted["reason"])
                case "correct":
                    await quarantine.correct(session, found, version, quarantine.Correction(), reason=posted["reason"])
                case "write_off":
                    await quarantine.write_off(session, found, version, reason=posted["reason"])
                case _:
                    raise Invalid("choose what to do", param="decision")

    return await _decided(request, work(), N_("The event is decided about."))


async def _decided(request: ConsoleRequest, work: Awaitable[None], done: str) -> Response[Any]:
    response = Redirect("/console/disputes", status_code=_SEE_OTHER)
    try:
        await work
    except Invalid as error:
        flash(response, translate(request, _PROBLEMS.get(error.param or error.code, _REFUSED)), "red")
    except Conflict as error:
        flash(response, translate(request, _PROBLEMS.get(error.code, _REFUSED)), "red")
    else:
        flash(response, translate(request, done), "green")
    return response


_REFUSED = N_("This cannot be done with it. Nothing has changed.")
_PROBLEMS = {
    "reason": N_("Say why, in at most 500 characters of one line."),
    "decision": N_("Choose what to do."),
    "already_resolved": N_("Somebody decided about it already."),
    "nothing_to_correct": N_("There is nothing to give back: the tenant paid no more than the other witness says."),
    "still_refused": N_("It still cannot be posted, for the reason that the list says."),
    "not_in_the_tenants_favour": N_("By the price book it costs more than it asked for: give it up instead."),
    "price_version": N_("Its price version is unknown: correct it through the API, or give it up."),
}
