"""`/console/tax`: VAT numbers without a yes, documents that were refused, and the rates of all countries."""

from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from chappe_billing.documents.queries import forget_refusal, list_refusals
from chappe_billing.tax import queries, service
from chappe_billing.tax.deciding import NumberState
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.console.tax.rates import rates_by_country
from chappe_control.console.tenants.queries import read_tenant_names
from chappe_control.operator_api.references import parse_tenant_id
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.organisation_forms import collated, country_name
from chappe_control.pages.tax_texts import NUMBER_STATES
from chappe_control.permissions import Permission
from chappe_control.public.references import id_in_path
from chappe_control.state import Given
from chappe_kernel.errors import Conflict
from chappe_kernel.ids import INVOICE
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.organisations.service import get_organisation

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
SHOWN: Final = 25
"""Of checks and of refusals. What is settled makes room for the next."""


@get("/tax", permission=Permission.SEE_TENANTS)
async def show_tax(request: ConsoleRequest, services: Given) -> Response[bytes]:
    async with services.database.audit() as session:
        now = await read_now(session)
        checks = await queries.list_checks(session, limit=SHOWN)
        refusals = await list_refusals(session, limit=SHOWN)
        rates = rates_by_country(await queries.list_rates(session), now.date())
        names = await read_tenant_names(session, {tenant_id for _, _, tenant_id in refusals})
    return console_page(
        request,
        "console/tax.html",
        now=now,
        checks=[(check, tenant, _state(answer)) for check, tenant, answer in checks],
        refusals=refusals,
        names=names,
        # By what they are called, as in forms.
        rates=sorted(rates, key=lambda one: collated(country_name(request, one.country))),
        country_name=lambda code: country_name(request, code),
        number_states=NUMBER_STATES,
    )


@post("/tax/checks/{tenant_id:str}", permission=Permission.MANAGE_TAX)
async def check_again(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[Any]:
    """As soon as may be. Sent twice, it is due once."""
    scope = TenantScope(parse_tenant_id(tenant_id))
    try:
        async with services.database.operator(origin_of(request)) as session:
            await get_organisation(session, scope)
            await service.check_again(session, scope)
    except Conflict:
        return _back(request, N_("It has no VAT number that could be checked."), "red")
    return _back(request, N_("Its VAT number is checked within seconds, if a register is set up."))


@post("/tax/refusals/{invoice_id:str}", permission=Permission.MANAGE_TAX)
async def try_again(request: ConsoleRequest, services: Given, invoice_id: FromPath[str]) -> Response[Any]:
    """The worker that renders documents takes it up with its next turn."""
    found = id_in_path(INVOICE, invoice_id, "invoice")
    async with services.database.operator(origin_of(request)) as session:
        was_refused = await forget_refusal(session, found)
    if not was_refused:
        return _back(request, N_("This invoice is not refused any more."), "yellow")
    return _back(request, N_("Its document is tried again within a minute."))


def _state(answer: Any) -> NumberState:
    return NumberState.PENDING if answer is None else NumberState(answer.outcome)


def _back(request: ConsoleRequest, text: str, colour: str = "green") -> Response[Any]:
    response = Redirect("/console/tax", status_code=_SEE_OTHER)
    flash(response, translate(request, text), colour)
    return response
