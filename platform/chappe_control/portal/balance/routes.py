"""`/balance`: what the organisation has, topping it up, what it pays by, and what it paid."""

from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.payments import auto_top_ups, queries, service
from chappe_billing.payments.auto_top_ups import Wanted
from chappe_billing.payments.models import Method
from chappe_billing.payments.port import TryLater
from chappe_billing.payments.service import RefundAsked, TopUp
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.languages import translate
from chappe_control.pages.render import fragment, page
from chappe_control.permissions import Permission
from chappe_control.portal.balance import view
from chappe_control.portal.balance.texts import PROBLEMS, REFUSED
from chappe_control.public.references import id_in_path
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import PAYMENT, PAYMENT_CALL, encode_id
from chappe_kernel.money import parse_nano
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]
Work = Callable[[AsyncSession], Awaitable[str | None]]

_HOME = "/balance"
# The framework's type wants the number itself.
_SEE_OTHER: Final = 303


@get("/balance", include_in_schema=False, permission=Permission.READ_BALANCE)
async def show_balance_page(request: MemberRequest, services: Given) -> Response[bytes]:
    return await _balance(request, services, {})


@post("/balance/top-up", include_in_schema=False, permission=Permission.MANAGE_PAYMENTS)
async def top_up(request: MemberRequest, services: Given) -> Response[Any]:
    """Begins a payment; its page says what it costs with tax, before anything is paid."""
    typed = await read_fields(request, "amount", "other", "method", "save")
    scope, office = request.auth.scope, services.payments

    async def work(session: AsyncSession) -> str:
        asked = TopUp(
            net_nano=_amount(typed["other"] or typed["amount"]), method=_method(typed), save=bool(typed["save"])
        )
        office.wake_after(session)
        payment_id = await service.start_top_up(
            session, scope, asked, bounds=office.bounds, portal_url=services.settings.portal_url
        )
        return f"{_HOME}/payments/{encode_id(PAYMENT, payment_id)}"

    return await _do(request, services, work, {"top_up": typed})


@get("/balance/payments/{payment_id:str}", include_in_schema=False, permission=Permission.READ_BALANCE)
async def show_payment(request: MemberRequest, services: Given, payment_id: FromPath[str]) -> Response[bytes]:
    """Also where somebody comes back to from the page on which they paid, or did not."""
    return page(request, "portal/payment.html", **await _payment(request, services, payment_id))


@get("/balance/payments/{payment_id:str}/live", include_in_schema=False, permission=Permission.READ_BALANCE)
async def show_payment_live(request: MemberRequest, services: Given, payment_id: FromPath[str]) -> Response[bytes]:
    return fragment(request, "portal/payment_live.html", **await _payment(request, services, payment_id))


@post("/balance/payments/{payment_id:str}/refund", include_in_schema=False, permission=Permission.MANAGE_PAYMENTS)
async def ask_refund(request: MemberRequest, services: Given, payment_id: FromPath[str]) -> Response[Any]:
    found = id_in_path(PAYMENT, payment_id, "payment")
    typed = await read_fields(request, "refund_id", "reason")
    scope = request.auth.scope

    async def work(session: AsyncSession) -> None:
        services.payments.wake_after(session)
        asked = RefundAsked(
            refund_id=_uuid(typed["refund_id"]), gross_minor=None, reason=typed["reason"] or "asked for"
        )
        await service.refund_own(session, scope, found, asked)

    return await _act(request, services, work, f"{_HOME}/payments/{payment_id}")


@get("/balance/methods", include_in_schema=False, permission=Permission.READ_BALANCE)
async def come_back() -> Redirect:
    """From the page on which a card or an account was saved."""
    return Redirect(_HOME, status_code=_SEE_OTHER)


@post("/balance/methods", include_in_schema=False, permission=Permission.MANAGE_PAYMENTS)
async def add_method(request: MemberRequest, services: Given) -> Response[Any]:
    scope = request.auth.scope

    async def work(session: AsyncSession) -> str:
        services.payments.wake_after(session)
        call_id = await service.start_setup(session, scope, portal_url=services.settings.portal_url)
        return f"{_HOME}/methods/{encode_id(PAYMENT_CALL, call_id)}"

    return await _act(request, services, work, _HOME)


@get("/balance/methods/{call_id:str}", include_in_schema=False, permission=Permission.READ_BALANCE)
async def show_setup(request: MemberRequest, services: Given, call_id: FromPath[str]) -> Response[bytes]:
    return page(request, "portal/payment_setup.html", **await _setup(request, services, call_id))


@get("/balance/methods/{call_id:str}/live", include_in_schema=False, permission=Permission.READ_BALANCE)
async def show_setup_live(request: MemberRequest, services: Given, call_id: FromPath[str]) -> Response[bytes]:
    return fragment(request, "portal/payment_setup_live.html", **await _setup(request, services, call_id))


@post("/balance/methods/default", include_in_schema=False, permission=Permission.MANAGE_PAYMENTS)
async def choose_default(request: MemberRequest, services: Given) -> Response[Any]:
    method = (await read_fields(request, "method"))["method"]
    scope = request.auth.scope
    return await _act(request, services, lambda session: service.choose_method(session, scope, method), _HOME)


@post("/balance/methods/remove", include_in_schema=False, permission=Permission.MANAGE_PAYMENTS)
async def remove_method(request: MemberRequest, services: Given) -> Response[Any]:
    method = (await read_fields(request, "method"))["method"]
    scope = request.auth.scope

    async def work(session: AsyncSession) -> None:
        services.payments.wake_after(session)
        await service.remove_method(session, scope, method)

    return await _act(request, services, work, _HOME)


@post("/balance/auto-top-up", include_in_schema=False, permission=Permission.MANAGE_PAYMENTS)
async def change_auto_top_up(request: MemberRequest, services: Given) -> Response[Any]:
    typed = await read_fields(request, "is_on", "below", "net", "most_per_month")
    scope, bounds = request.auth.scope, services.payments.bounds

    async def work(session: AsyncSession) -> None:
        wanted = Wanted(
            is_on=bool(typed["is_on"]),
            below_nano=_amount(typed["below"]),
            net_nano=_amount(typed["net"]),
            most_per_month=_number(typed["most_per_month"]),
        )
        await auto_top_ups.set_auto_top_up(session, scope, wanted, bounds=bounds)

    return await _do(request, services, work, {"auto_top_up": typed})


@get("/balance/service", include_in_schema=False, permission=Permission.MANAGE_PAYMENTS)
async def open_service(request: MemberRequest, services: Given) -> Response[Any]:
    """The payment service's own page about this customer. A link and no form: no form of ours may lead elsewhere."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        customer = await queries.customer_of(session, scope.tenant_id)
    payment_service = await services.payments.service()
    if customer is None or payment_service is None:
        raise NotFound("nothing is known of you there")
    try:
        url = await payment_service.open_portal(customer, f"{services.settings.portal_url}{_HOME}")
    except TryLater:
        response: Response[Any] = Redirect(_HOME, status_code=_SEE_OTHER)
        flash(response, translate(request, REFUSED), "red")
        return response
    return Redirect(url, status_code=_SEE_OTHER)


async def _do(
    request: MemberRequest, services: Services, work: Work, typed: dict[str, dict[str, str]]
) -> Response[Any]:
    """What a form on the balance's page asks for; refused, the page comes back with what was typed."""
    try:
        async with services.database.tenant(request.auth.scope, origin_of(request)) as session:
            target = await work(session)
    except (Invalid, Conflict) as error:
        return await _balance(request, services, typed, error)
    return Redirect(target or _HOME, status_code=_SEE_OTHER)


async def _act(
    request: MemberRequest, services: Services, work: Callable[[AsyncSession], Awaitable[str | None]], target: str
) -> Response[Any]:
    """What a button asks for; refused, a message says why."""
    problem = None
    try:
        async with services.database.tenant(request.auth.scope, origin_of(request)) as session:
            target = await work(session) or target
    except (Invalid, Conflict) as error:
        problem = PROBLEMS.get(error.code, REFUSED)
    response = Redirect(target, status_code=_SEE_OTHER)
    if problem is not None:
        flash(response, translate(request, problem), "red")
    return response


async def _balance(
    request: MemberRequest,
    services: Services,
    typed: dict[str, dict[str, str]],
    error: Invalid | Conflict | None = None,
) -> Response[bytes]:
    async with services.database.tenant_snapshot(request.auth.scope) as session:
        found = await view.read_balance_page(session, request.auth.scope, services.payments)
    whole = {} if error is None else {"__all__": translate(request, PROBLEMS.get(error.code, REFUSED))}
    forms = {name: Form(typed.get(name, {}), whole if name in typed else {}) for name in ("top_up", "auto_top_up")}
    status = 200 if error is None else 409 if isinstance(error, Conflict) else 400
    return page(request, "portal/balance.html", status=status, found=found, forms=forms, **view.TEXTS)


async def _payment(request: MemberRequest, services: Services, payment_id: str) -> dict[str, Any]:
    found = id_in_path(PAYMENT, payment_id, "payment")
    async with services.database.tenant_snapshot(request.auth.scope) as session:
        shown = await view.read_payment_page(session, request.auth.scope, found)
    return {"found": shown, **view.TEXTS}


async def _setup(request: MemberRequest, services: Services, call_id: str) -> dict[str, Any]:
    found = id_in_path(PAYMENT_CALL, call_id, "page")
    async with services.database.tenant_snapshot(request.auth.scope) as session:
        call = await queries.find_call(session, request.auth.scope, found)
    if call is None or call.kind != "setup":
        raise NotFound("no such page")
    return {"call": call}


def _amount(text: str) -> int:
    """As people write it: with a point or a comma. Raises `Invalid`."""
    return parse_nano(text.strip().replace(",", "."))


def _number(text: str) -> int:
    if not text.strip().isdecimal() or len(text) > 5:  # noqa: PLR2004 -- more than any number that is allowed
        raise Invalid("a whole number", code="invalid_number")
    return int(text)


def _method(typed: dict[str, str]) -> Method:
    try:
        return Method(typed["method"] or Method.CARD)
    except ValueError:
        raise Invalid("no such way to pay", code="invalid_method") from None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Invalid("no id of a refund", code="invalid_id") from None
