"""`/console/dunning`: who owes what at which level, pauses, the log, and each legal entity's policy."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.dunning import queries, service
from chappe_billing.dunning.rules import DEFAULT_POLICY, Policy
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.cursors import decode_cursor, encode_cursor
from chappe_control.operator_api.references import parse_tenant_id
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.permissions import Permission
from chappe_control.public.references import id_in_path
from chappe_control.state import Given, Services
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import LEGAL_ENTITY
from chappe_store.queries import read_now
from chappe_tenants.legal_entities.queries import list_entities
from chappe_tenants.legal_entities.service import get_entity

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_ENTITIES: Final = 100
_SHOWN: Final = 25
_STEPS: Final = 50
_DAY_FIELDS: Final = ("enabled", "reminder_days", "notice_days", "retry_days", "suspend_days", "grace_days")

KINDS: Final = {
    "reminder": N_("Reminder"),
    "notice": N_("Notice %(level)s"),
    "retry": N_("New try %(level)s to collect"),
    "suspension": N_("Suspension"),
}
_PROBLEMS: Final = {
    "reason": N_("Say why, in at most 500 characters of one line."),
    "until": N_("Choose a day in the future, within a year."),
    "notice_days": N_("Notices are one to five numbers of days, ascending, such as 1, 8, 15."),
    "retry_days": N_("New tries are up to ten numbers of days, ascending, or nothing."),
    "suspend_days": N_("Nobody is suspended before the last notice."),
    "grace_days": N_("The grace is 1 to 60 days."),
    "reminder_days": N_("The reminder is 1 to 60 days before, or nothing."),
}
_REFUSED: Final = N_("This cannot be done with it. Nothing has changed.")

Work = Callable[[AsyncSession], Awaitable[object]]


@get("/dunning", permission=Permission.SEE_DUNNING)
async def show_dunning(request: ConsoleRequest, services: Given) -> Response[bytes]:
    async with services.database.audit() as session:
        now = await read_now(session)
        book = await service.read_book(session, limit=_SHOWN, after=decode_cursor(request.query_params.get("cursor")))
        steps = await queries.list_steps(session, limit=_STEPS)
        policies = await queries.read_policies(session)
        entities = await list_entities(session, limit=_ENTITIES)
    return console_page(
        request,
        "console/dunning.html",
        now=now,
        book=book.entries,
        next_cursor=None if book.next_after is None else encode_cursor(book.next_after),
        steps=steps,
        kinds=KINDS,
        policies=[(entity, policies.get(entity.id, DEFAULT_POLICY)) for entity in entities],
        tomorrow=(now + timedelta(days=1)).date().isoformat(),
        latest=(now + timedelta(days=364)).date().isoformat(),
    )


@post("/dunning/tenants/{tenant_id:str}/pause", permission=Permission.MANAGE_DUNNING)
async def pause(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    """Until the end of the day that is chosen (UTC)."""
    tenant = parse_tenant_id(tenant_id)
    posted = await read_fields(request, "reason", "last_day")

    async def work(session: AsyncSession) -> None:
        await service.pause(session, tenant, reason=posted["reason"], until=_end_of(posted["last_day"]))

    return await _done(request, services, work, N_("It is left alone until then."))


@post("/dunning/tenants/{tenant_id:str}/resume", permission=Permission.MANAGE_DUNNING)
async def resume(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    tenant = parse_tenant_id(tenant_id)

    async def work(session: AsyncSession) -> None:
        await service.resume(session, tenant)

    return await _done(request, services, work, N_("Its dunning goes on."))


@post("/dunning/policies/{entity_id:str}", permission=Permission.MANAGE_DUNNING)
async def set_policy(request: ConsoleRequest, services: Given, entity_id: FromPath[str]) -> Response[Any]:
    found_id = id_in_path(LEGAL_ENTITY, entity_id, "legal entity")
    posted = await read_fields(request, *_DAY_FIELDS)

    async def work(session: AsyncSession) -> None:
        entity = await get_entity(session, found_id, lock=True)
        await service.put_policy(session, entity.id, _policy(posted))

    return await _done(request, services, work, N_("The policy is set."))


async def _done(request: ConsoleRequest, services: Services, work: Work, done: str) -> Response[Any]:
    response = Redirect("/console/dunning", status_code=_SEE_OTHER)
    try:
        async with services.database.operator(origin_of(request)) as session:
            await work(session)
    except Invalid as error:
        flash(response, translate(request, _PROBLEMS.get(error.param or error.code, _REFUSED)), "red")
    else:
        flash(response, translate(request, done), "green")
    return response


def _end_of(text: str) -> datetime:
    """Raises `Invalid`."""
    try:
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise Invalid("no day", code="invalid_date", param="until") from None


def _policy(posted: Mapping[str, str]) -> Policy:
    """Raises `Invalid` naming the field."""
    reminder, suspend = _days(posted, "reminder_days"), _days(posted, "suspend_days")
    return Policy(
        enabled=bool(posted["enabled"]),
        reminder_days=reminder[0] if reminder else None,
        notice_days=_days(posted, "notice_days"),
        retry_days=_days(posted, "retry_days"),
        suspend_days=suspend[0] if suspend else None,
        grace_days=(_days(posted, "grace_days") or (0,))[0],
    )


def _days(posted: Mapping[str, str], name: str) -> tuple[int, ...]:
    parts = posted[name].replace(",", " ").split()
    if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):  # noqa: PLR2004 -- up to 365
        raise Invalid("no numbers of days", param=name)
    return tuple(int(part) for part in parts)
