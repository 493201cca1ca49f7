"""`/console/payments`: what tenants pay through the payment service, and what of it a person has to look at."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.payments import call_queries, calling, quarantine, queries, service
from chappe_billing.payments.amounts import nano_per_minor
from chappe_billing.payments.models import CallKind
from chappe_billing.payments.service import RefundAsked
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.console.tenants.queries import read_tenant_names
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.permissions import Permission
from chappe_control.portal.balance.texts import (
    DISPUTE_STATES,
    METHODS,
    PROBLEMS,
    PURPOSES,
    REFUND_STATES,
    REFUSED,
    STATES,
)
from chappe_control.public.references import id_in_path
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import PAYMENT, PAYMENT_CALL, QUARANTINED_PAYMENT, new_id
from chappe_kernel.money import parse_nano
from chappe_store.queries import read_now

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
SHOWN = 25
_TRIES = 5
"""Of each call."""
_HOME = "/console/payments"
Row = TypeVar("Row")
CALL_KINDS = {
    CallKind.CUSTOMER: N_("Making the tenant known there"),
    CallKind.CHECKOUT: N_("Opening a page for a payment"),
    CallKind.SETUP: N_("Opening a page for saving a method"),
    CallKind.CHARGE: N_("Charging a saved method"),
    CallKind.INVOICE: N_("Collecting an invoice"),
    CallKind.REFUND: N_("Paying back"),
    CallKind.FORGET_METHOD: N_("Forgetting a saved method"),
    CallKind.USAGE: N_("Telling what was used"),
}
OUTCOMES = {
    "done": N_("Done"),
    "found": N_("Found to be done before"),
    "refused": N_("Refused"),
    "later": N_("Put off"),
    "poisoned": N_("Given up"),
    "again": N_("Tried again by hand"),
}
_MINE = {
    **PROBLEMS,
    "reason": N_("Say why, in at most 500 characters of one line."),
    "not_poisoned": N_("Somebody decided about it already."),
    "already_closed": N_("Somebody decided about it already."),
}


@get("/payments", permission=Permission.SEE_PAYMENTS)
async def show_payments(request: ConsoleRequest, services: Given) -> Response[bytes]:
    before = decode_cursor(request.query_params.get("cursor"))
    async with services.database.audit() as session:
        now = await read_now(session)
        rows = await queries.list_all_payments(session, limit=SHOWN + 1, before=before)
        payments, next_cursor = cut_page(rows, SHOWN, lambda row: row.id)
        calls, more_calls = _first(await call_queries.list_open_calls(session, limit=SHOWN + 1))
        attempts = await call_queries.list_last_attempts(session, [call.id for call in calls], limit=_TRIES)
        quarantined, more_quarantined = _first(await queries.list_quarantined(session, limit=SHOWN + 1))
        disputes = await queries.list_disputes(session, limit=SHOWN)
        refunds = await queries.list_refunds(session, limit=SHOWN)
        tenant_ids = {row.tenant_id for row in payments} | {row.tenant_id for row in calls}
        tenant_ids |= {row.tenant_id for row in disputes} | {row.tenant_id for row in refunds}
        names = await read_tenant_names(session, tenant_ids)
    return console_page(
        request,
        "console/payments.html",
        now=now,
        payments=payments,
        next_cursor=next_cursor,
        more_calls=more_calls,
        more_quarantined=more_quarantined,
        calls=calls,
        attempts=attempts,
        quarantined=quarantined,
        disputes=disputes,
        refunds=refunds,
        names=names,
        fresh_id=new_id,
        call_kinds=CALL_KINDS,
        outcomes=OUTCOMES,
        states=STATES,
        purposes=PURPOSES,
        methods=METHODS,
        refund_states=REFUND_STATES,
        dispute_states=DISPUTE_STATES,
        minor_nano=nano_per_minor,
    )


@post("/payments/{payment_id:str}/refund", permission=Permission.WORK_PAYMENTS)
async def refund(request: ConsoleRequest, services: Given, payment_id: FromPath[str]) -> Response[Any]:
    """Without an amount it is all that is left."""
    found = id_in_path(PAYMENT, payment_id, "payment")
    typed = await read_fields(request, "amount", "reason", "refund_id")

    async def work(session: AsyncSession) -> None:
        payment = await queries.find_any_payment(session, found)
        unit = nano_per_minor("EUR" if payment is None else payment.currency)
        gross_minor = _minor(typed["amount"], unit) if typed["amount"].strip() else None
        services.payments.wake_after(session)
        asked = RefundAsked(refund_id=_uuid(typed["refund_id"]), gross_minor=gross_minor, reason=typed["reason"])
        await service.refund(session, found, asked)

    return await _act(request, services, work, N_("The refund is on its way."))


@post("/payments/calls/{call_id:str}/retry", permission=Permission.WORK_PAYMENTS)
async def retry(request: ConsoleRequest, services: Given, call_id: FromPath[str]) -> Response[Any]:
    found = id_in_path(PAYMENT_CALL, call_id, "call")
    reason = (await read_fields(request, "reason"))["reason"]

    async def work(session: AsyncSession) -> None:
        services.payments.wake_after(session)
        await calling.try_again(session, found, reason=reason)

    return await _act(request, services, work, N_("It is tried again."))


@post("/payments/quarantine/{quarantined_id:str}/close", permission=Permission.WORK_PAYMENTS)
async def close(request: ConsoleRequest, services: Given, quarantined_id: FromPath[str]) -> Response[Any]:
    found = id_in_path(QUARANTINED_PAYMENT, quarantined_id, "payment in quarantine")
    reason = (await read_fields(request, "reason"))["reason"]
    return await _act(
        request, services, lambda session: quarantine.close(session, found, reason), N_("It is decided about.")
    )


def _first(rows: list[Row]) -> tuple[list[Row], bool]:
    """Those that are shown, and whether there are more: what is decided makes room for the next."""
    return rows[:SHOWN], len(rows) > SHOWN


async def _act(
    request: ConsoleRequest, services: Services, work: Callable[[AsyncSession], Awaitable[None]], done: str
) -> Response[Any]:
    response = Redirect(_HOME, status_code=_SEE_OTHER)
    try:
        async with services.database.operator(origin_of(request)) as session:
            await work(session)
    except (Invalid, Conflict) as error:
        problem = _MINE.get(error.code) or _MINE.get(error.param or "") or REFUSED
        flash(response, translate(request, problem), "red")
    else:
        flash(response, translate(request, done), "green")
    return response


def _minor(text: str, unit: int) -> int:
    nano = parse_nano(text.strip().replace(",", "."))
    if nano % unit:
        raise Invalid("whole cents", code="invalid_amount", param="amount")
    return nano // unit


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Invalid("no id of a refund", code="invalid_id") from None
