"""`/billing-details`: how purchases are taxed and why, and the form of what stands on invoices."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.response import Redirect

from chappe_billing.billing_profiles.service import ProfileChange, change_profile, lock_profile, read_profile
from chappe_billing.documents.leitweg import is_leitweg_id
from chappe_billing.invoicing.queries import Profile
from chappe_billing.tax.deciding import Reason
from chappe_billing.tax.queries import read_ruling
from chappe_billing.tax.service import standing_of
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.languages import LANGUAGES, N_, translate
from chappe_control.pages.organisation_forms import country_name
from chappe_control.pages.render import page
from chappe_control.pages.tax_texts import CATEGORIES, NUMBER_STATES, SOURCES
from chappe_control.permissions import Permission
from chappe_control.portal.billing_details.texts import REASONS
from chappe_control.state import Given, Services
from chappe_kernel.errors import Invalid
from chappe_store.queries import read_now
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_TEXTS: Final = ("purchase_order", "buyer_reference", "invoice_email")
_FIELDS: Final = (*_TEXTS, "language", "split_by_project")
_PROBLEMS: Final = {
    "purchase_order": N_("Use at most 100 characters of one line."),
    "buyer_reference": N_("Use at most 100 characters of one line."),
    "invoice_email": N_("Enter an e-mail address, like name@company.example."),
    "language": N_("Choose one of the languages."),
}
# What invoices name of a buyer, and what it is called.
_NEEDED: Final = {
    "legal_name": N_("the legal name"),
    "address_line_1": N_("the address"),
    "country": N_("the country"),
}


@get("/billing-details", include_in_schema=False, permission=Permission.READ_INVOICES)
async def show_billing_details(request: MemberRequest, services: Given) -> Response[bytes]:
    return await _page(request, services)


@post("/billing-details", include_in_schema=False, permission=Permission.MANAGE_BILLING)
async def change_billing_details(request: MemberRequest, services: Given) -> Response[Any]:
    posted = await read_fields(request, *_FIELDS)
    scope = request.auth.scope
    try:
        async with services.database.tenant(scope, origin_of(request)) as session:
            await lock_profile(session, scope)
            await change_profile(session, scope, _change(posted))
    except Invalid as error:
        if error.param not in _PROBLEMS:
            raise
        form = Form(posted, {error.param: translate(request, _PROBLEMS[error.param])})
        return await _page(request, services, form=form, status=HTTPStatus.BAD_REQUEST)
    response = Redirect("/billing-details", status_code=_SEE_OTHER)
    flash(response, translate(request, N_("The billing details are changed, from the next invoice on.")), "green")
    return response


async def _page(
    request: MemberRequest, services: Services, *, form: Form | None = None, status: HTTPStatus = HTTPStatus.OK
) -> Response[bytes]:
    scope = request.auth.scope
    async with services.database.tenant_snapshot(scope) as session:
        today = (await read_now(session)).date()
        standing = await standing_of(session, scope, today)
        is_ruled = standing.decision.reason is Reason.RULING
        ruling = await read_ruling(session, scope, today) if is_ruled else None
        profile = await read_profile(session, scope)
    return page(
        request,
        "portal/billing_details.html",
        status=status,
        standing=standing,
        ruling=ruling,
        missing=missing_of(standing.tenant),
        country_name=lambda code: country_name(request, code),
        profile=profile,
        is_routed=is_leitweg_id(profile.buyer_reference),
        invoice_languages=LANGUAGES,
        reasons=REASONS,
        categories=CATEGORIES,
        number_states=NUMBER_STATES,
        sources=SOURCES,
        form=form or Form(_filled(profile)),
    )


def missing_of(tenant: Tenant) -> list[str]:
    """What invoices need of a buyer and is not known of this one, in words."""
    return [text for name, text in _NEEDED.items() if not getattr(tenant, name)]


def _change(posted: Mapping[str, str]) -> ProfileChange:
    """All of the form: an empty field forgets what was there."""
    texts = {name: posted[name].strip() or None for name in _TEXTS}
    return ProfileChange(**texts, language=posted["language"], split_by_project=bool(posted["split_by_project"]))


def _filled(profile: Profile) -> dict[str, str]:
    return {
        "purchase_order": profile.purchase_order or "",
        "buyer_reference": profile.buyer_reference or "",
        "invoice_email": profile.invoice_email or "",
        "language": profile.language,
        "split_by_project": "on" if profile.split_by_project else "",
    }
