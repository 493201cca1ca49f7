"""`/console/invoices`: runs and their logs, what is open and what is on no invoice yet, and issuing it."""

from datetime import date, timedelta
from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from chappe_billing.contract_terms.schemas import read_month
from chappe_billing.invoice_runs import queries as runs
from chappe_billing.invoice_runs.service import begin_run, get_state
from chappe_billing.invoices import queries
from chappe_billing.invoices.models import Outcome
from chappe_billing.invoicing.queries import read_today
from chappe_billing.invoicing.service import issue
from chappe_control.console.invoices.texts import OUTCOMES, PROBLEMS, REASONS, REFUSED
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.console.tenants.queries import read_tenant_names
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.operator_api.references import entity_in_body, parse_tenant_id
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.invoices import TEXTS
from chappe_control.pages.languages import N_, translate
from chappe_control.permissions import Permission
from chappe_control.public.references import id_in_path
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import INVOICE_RUN, LEGAL_ENTITY, encode_id
from chappe_store.queries import read_now
from chappe_tenants.legal_entities.queries import list_entities

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_HOME = "/console/invoices"
_SHOWN = 25
_ENTITIES = 100
_FIELD_OF = {"month_not_over": "month", "billed_externally": "legal_entity_id"}
"""Which field of a run's form an error is about that names none."""


@get("/invoices", permission=Permission.SEE_INVOICES)
async def show_invoices(request: ConsoleRequest, services: Given) -> Response[bytes]:
    return await _overview(request, services, Form())


@post("/invoices/runs", permission=Permission.MANAGE_INVOICES)
async def begin(request: ConsoleRequest, services: Given) -> Response[Any]:
    """Of a month that is over; the one there is, if it was begun before."""
    typed = await read_fields(request, "month", "legal_entity_id")
    try:
        entity, month = entity_in_body(typed["legal_entity_id"] or None), _month(typed["month"])
        async with services.database.operator(origin_of(request)) as session:
            run = await begin_run(session, entity, month)
    except (Invalid, Conflict) as error:
        blamed = _FIELD_OF.get(error.code, error.param or "month")
        problem = PROBLEMS.get(error.code) or PROBLEMS.get(blamed, REFUSED)
        return await _overview(request, services, Form(typed, {blamed: translate(request, problem)}), error)
    response = Redirect(f"{_HOME}/runs/{encode_id(INVOICE_RUN, run.id)}", status_code=_SEE_OTHER)
    flash(response, translate(request, N_("The run has begun: it is worked on within a minute.")), "green")
    return response


@get("/invoices/runs/{run_id:str}", permission=Permission.SEE_INVOICES)
async def show_run(request: ConsoleRequest, services: Given, run_id: FromPath[str]) -> Response[bytes]:
    """What it made of each payer, and why some are left for later."""
    found = id_in_path(INVOICE_RUN, run_id, "invoice run")
    after, wanted = decode_cursor(request.query_params.get("cursor")), request.query_params.get("outcome")
    outcome = Outcome(wanted) if wanted in set(Outcome) else None
    async with services.database.audit() as session:
        now = await read_now(session)
        run = await get_state(session, found)
        rows = await runs.list_log(session, found, limit=_SHOWN + 1, after=after, outcome=outcome)
        names = {entity.id: entity.name for entity in await list_entities(session, limit=_ENTITIES)}
    entries, next_cursor = cut_page(rows, _SHOWN, lambda row: row.tenant_id)
    return console_page(
        request,
        "console/invoice_run.html",
        now=now,
        run=run,
        entries=entries,
        next_cursor=next_cursor,
        entities=names,
        outcome=outcome,
        outcomes=OUTCOMES,
        reasons=REASONS,
    )


@post("/invoices/issue/{tenant_id:str}", permission=Permission.MANAGE_INVOICES)
async def issue_now(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    """Of all that was charged to it and is on no invoice yet."""
    tenant = parse_tenant_id(tenant_id)
    response = Redirect(_HOME, status_code=_SEE_OTHER)
    try:
        async with services.database.operator(origin_of(request)) as session:
            issued = await issue(session, tenant)
    except Conflict as error:
        flash(response, translate(request, PROBLEMS.get(error.code, REFUSED)), "red")
        return response
    numbers = ", ".join(one.number for one in issued)
    if issued:
        flash(response, translate(request, N_("Issued: %(numbers)s")) % {"numbers": numbers}, "green")
    else:
        flash(response, translate(request, N_("What it was charged comes to less than a cent. It waits.")), "yellow")
    return response


async def _overview(
    request: ConsoleRequest, services: Services, form: Form, error: Invalid | Conflict | None = None
) -> Response[bytes]:
    asked = request.query_params
    after, since, behind = (decode_cursor(asked.get(name)) for name in ("cursor", "runs", "unbilled"))
    is_overdue = bool(asked.get("overdue"))
    async with services.database.audit() as session:
        now, today = await read_now(session), await read_today(session)
        states = await runs.list_states(session, limit=_SHOWN + 1, before=since)
        if is_overdue:
            due = await queries.overdue_invoices(session, today, limit=_SHOWN + 1, after=after)
        else:
            due = await queries.open_invoices(session, limit=_SHOWN + 1, after=after)
        unbilled = await queries.list_unbilled(session, limit=_SHOWN + 1, after=behind)
        newest = await queries.list_documents(session, tenant_id=None, limit=_SHOWN)
        named = {row.tenant_id for row in due} | {row.tenant_id for row in newest}
        names = await read_tenant_names(session, named)
        entities = await list_entities(session, limit=_ENTITIES)
    shown_runs, next_runs = cut_page(states, _SHOWN, lambda row: row.id)
    shown_due, next_due = cut_page(due, _SHOWN, lambda row: row.id)
    shown_unbilled, next_unbilled = cut_page(unbilled, _SHOWN, lambda row: row.tenant_id)
    return console_page(
        request,
        "console/invoices.html",
        status=200 if error is None else 409 if isinstance(error, Conflict) else 400,
        now=now,
        today=today,
        form=form,
        runs=shown_runs,
        next_runs=next_runs,
        due=shown_due,
        next_due=next_due,
        is_overdue=is_overdue,
        unbilled=shown_unbilled,
        next_unbilled=next_unbilled,
        newest=newest,
        names=names,
        entities=[(encode_id(LEGAL_ENTITY, entity.id), entity.name) for entity in entities],
        entity_names={entity.id: entity.name for entity in entities},
        last_month=(today.replace(day=1) - timedelta(days=1)).strftime("%Y-%m"),
        **TEXTS,
    )


def _month(text: str) -> date:
    """Its first day. Raises `Invalid`."""
    try:
        return read_month(text.strip())
    except ValueError:
        raise Invalid("no month", param="month") from None
