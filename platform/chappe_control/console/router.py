"""All pages of the console, behind the operator's sign-in and the table of permissions."""

from typing import Any, Final

from litestar import Response, Router, get
from litestar.response import Redirect

from chappe_control.console.deployments import routes as deployments
from chappe_control.console.disputes import routes as disputes
from chappe_control.console.dunning import routes as dunning
from chappe_control.console.invoices import one as one_invoice
from chappe_control.console.invoices import routes as invoices
from chappe_control.console.menu import first_page
from chappe_control.console.payments import routes as payments
from chappe_control.console.prices import drafts as price_drafts
from chappe_control.console.prices import routes as prices
from chappe_control.console.prices import tenant_terms
from chappe_control.console.quotas import routes as quotas
from chappe_control.console.regions import routes as regions
from chappe_control.console.rendering import ConsoleRequest, about_role
from chappe_control.console.revenue import routes as revenue
from chappe_control.console.revenue.hours import HourBook
from chappe_control.console.tax import routes as tax
from chappe_control.console.tax import schedule as tax_rates
from chappe_control.console.tax import tenant as tenant_tax
from chappe_control.console.tenants import forms as tenant_forms
from chappe_control.console.tenants import owners as tenant_owners
from chappe_control.console.tenants import routes as tenants
from chappe_control.pages.gallery import show_gallery, show_gallery_live
from chappe_control.pages.guards import require_operator
from chappe_control.pages.render import page
from chappe_control.permissions import Permission, require_permission
from chappe_kernel.clock import Clock
from chappe_kernel.errors import Denied

_SEE_OTHER: Final = 303
_FORBIDDEN = 403


@get("/", permission=Permission.USE_CONSOLE)
async def go_to_first_page(request: ConsoleRequest) -> Redirect:
    return Redirect(first_page(request.auth.role), status_code=_SEE_OTHER)


def show_forbidden(request: ConsoleRequest, _: Denied) -> Response[bytes]:
    """Says what the role may open instead."""
    return page(
        request,
        "console/forbidden.html",
        status=_FORBIDDEN,
        first_page=first_page(request.auth.role),
        **about_role(request),
    )


def make_router(clock: Clock) -> Router:
    """`clock` says how long past hours are remembered."""
    book = HourBook(clock)
    handlers: list[Any] = [
        go_to_first_page,
        *regions.make_handlers(book),
        deployments.show_deployments,
        deployments.show_deployments_live,
        tenants.show_tenants,
        tenants.show_tenants_live,
        tenants.show_tenant,
        tenants.show_tenant_live,
        quotas.show_quotas,
        quotas.raise_quota,
        quotas.end_raise,
        tenant_forms.show_new_tenant,
        tenant_forms.make_tenant,
        tenant_forms.show_edit_tenant,
        tenant_forms.edit_tenant,
        tenant_forms.show_credit_limit,
        tenant_forms.edit_credit_limit,
        tenant_forms.take_step,
        tenant_owners.show_owner_form,
        tenant_owners.invite_tenant_owner,
        *revenue.make_handlers(book),
        invoices.show_invoices,
        invoices.begin,
        invoices.show_run,
        invoices.issue_now,
        one_invoice.show_invoice,
        one_invoice.pay,
        one_invoice.give_up,
        one_invoice.take_back,
        dunning.show_dunning,
        dunning.pause,
        dunning.resume,
        dunning.set_policy,
        payments.show_payments,
        payments.refund,
        payments.retry,
        payments.close,
        tax.show_tax,
        tax.check_again,
        tax.try_again,
        tax_rates.show_rates,
        tax_rates.schedule,
        tax_rates.withdraw,
        tenant_tax.show_tenant_tax,
        tenant_tax.rule,
        disputes.show_disputes,
        disputes.resolve,
        disputes.decide,
        prices.show_prices,
        prices.show_history,
        prices.show_version,
        prices.withdraw,
        prices.revert,
        price_drafts.show_drafts,
        price_drafts.show_new_draft,
        price_drafts.make_draft,
        price_drafts.show_one_draft,
        price_drafts.put_line,
        price_drafts.remove_line,
        price_drafts.simulate_draft,
        price_drafts.publish_draft,
        price_drafts.discard_draft,
        tenant_terms.show_tenant_prices,
        tenant_terms.agree_term,
        tenant_terms.end_term,
        show_gallery,
        show_gallery_live,
    ]
    return Router(
        "/console",
        route_handlers=handlers,
        guards=[require_operator, require_permission],
        exception_handlers={Denied: show_forbidden},
        include_in_schema=False,
    )
