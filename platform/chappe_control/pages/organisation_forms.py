"""The form of an organisation's details: the same fields and the same checks in the portal and the console."""

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from babel import Locale
from litestar import Request
from msgspec import UNSET, Struct, UnsetType

from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.languages import LOCALES, N_, language_of, translate
from chappe_kernel.errors import ChappeError, Conflict, Invalid
from chappe_kernel.residency import expand
from chappe_tenants.naming import MAX_NAME_LENGTH
from chappe_tenants.organisations.countries import COUNTRIES
from chappe_tenants.organisations.details import Address, Contact
from chappe_tenants.organisations.lifecycle import Reason, TenantState
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.schemas import AllowedRegions, TakeStep

FIELDS = (
    *("name", "legal_name", "line_1", "line_2", "postal_code", "city", "country", "vat_number"),
    *("contact_name", "contact_email", "contact_phone"),
)
_MAX_CHOSEN = 100
_PageRequest = Request[Any, Any, Any]

_PROBLEMS = {
    "name": N_("Enter a name of 1 to 100 characters."),
    "legal_name": N_("Enter the name as the register has it, of at most 200 characters."),
    "line_1": N_("Enter street and number."),
    "line_2": N_("Use at most 100 characters."),
    "postal_code": N_("Use at most 100 characters."),
    "city": N_("Enter the city."),
    "country": N_("Choose the country."),
    "vat_number": N_("This is not a VAT number of that country."),
    "contact_name": N_("Enter who it is."),
    "contact_email": N_("Enter an e-mail address, like name@company.example."),
    "contact_phone": N_("Begin with + and the country's code."),
    "regions": N_("Choose at least one of these regions."),
    "content_kept_for_s": N_("Choose one of these."),
    "answers_kept_for_s": N_("Choose one of these."),
    "share": N_("Enter a number from 1 to 1,000, or nothing."),
    "plan": N_("Enter the name of a plan."),
    "contract_reference": N_("Use at most 100 characters."),
    "reference": N_("Another tenant has this number."),
    "parent": N_("Enter the id of another tenant, beginning with ten_, that can be above this one."),
    "relation": N_("Only a reseller has customers."),
    "is_reseller": N_("It still has customers."),
    "credit_limit": N_("Enter an amount from 0 to a billion."),
}
_FIELD_OF = {
    "address": "country",
    "address_line_1": "line_1",
    "allowed_regions": "regions",
    "parent.id": "parent",
    **{f"address.{name}": name for name in ("line_1", "line_2", "postal_code", "city", "country")},
    **{f"contact.{name}": f"contact_{name}" for name in ("name", "email", "phone")},
}
_CODES = {
    "verified_detail": N_("This was verified. Ask your provider to change it."),
    "details_missing": N_("This must be known before the organisation is verified."),
    "no_reseller": N_("Only a reseller has customers."),
}


class Posted(Struct, frozen=True):
    """The details as they were typed: an empty field is nothing, and an address or a contact without any field none."""

    name: str
    legal_name: str | None
    address: Address | None
    vat_number: str | None
    contact: Contact | None


def posted_details(fields: Mapping[str, str]) -> Posted:
    typed = {name: fields[name].strip() for name in FIELDS}
    address = {name: typed[name] for name in ("line_1", "line_2", "postal_code", "city", "country")}
    contact = {name: typed[f"contact_{name}"] for name in ("name", "email", "phone")}
    return Posted(
        name=typed["name"],
        legal_name=typed["legal_name"] or None,
        address=Address(
            line_1=address["line_1"],
            line_2=address["line_2"] or None,
            postal_code=address["postal_code"] or None,
            city=address["city"],
            country=address["country"],
        )
        if any(address.values())
        else None,
        vat_number=typed["vat_number"] or None,
        contact=Contact(contact["name"], contact["email"], contact["phone"] or None) if any(contact.values()) else None,
    )


def values_of(tenant: Tenant) -> dict[str, str]:
    """What the form shows of an organisation that there is."""
    values = {
        "name": tenant.name,
        "legal_name": tenant.legal_name,
        "line_1": tenant.address_line_1,
        "line_2": tenant.address_line_2,
        "postal_code": tenant.postal_code,
        "city": tenant.city,
        "country": tenant.country,
        "vat_number": tenant.vat_number,
        "contact_name": tenant.contact_name,
        "contact_email": tenant.contact_email,
        "contact_phone": tenant.contact_phone,
    }
    return {name: value or "" for name, value in values.items()}


def refused_form(request: _PageRequest, error: ChappeError, typed: Mapping[str, str]) -> Form:
    """The form again, with what is wrong at its field. Raises `error` if no field is to blame."""
    name = _FIELD_OF.get(error.param or "", error.param or "")
    text = _CODES.get(error.code) or _PROBLEMS.get(name)
    if not isinstance(error, Conflict | Invalid) or text is None:
        raise error
    return Form(typed, {name if name in _PROBLEMS else WHOLE_FORM: translate(request, text)})


async def chosen_boxes(request: _PageRequest, name: str) -> tuple[str, ...]:
    """The ticked boxes of that name."""
    values = (await request.form()).getall(name, [])
    return tuple(value[:MAX_NAME_LENGTH] for value in values[:_MAX_CHOSEN] if isinstance(value, str))


def chosen_regions(
    chosen: Sequence[str], present: Sequence[str], jurisdiction_of: dict[str, str]
) -> AllowedRegions | UnsetType:
    """The allow-list that the boxes mean, in the order of the present one; unset if they change nothing. So a
    jurisdiction in the list stays one, with the regions that it will have."""
    before = expand(present, jurisdiction_of)
    if set(before) == set(chosen):
        return UNSET
    kept = [name for name in before if name in chosen]
    return kept + [name for name in chosen if name not in kept]


async def read_step(request: _PageRequest) -> TakeStep:
    """Raises `Invalid` for a state or a reason that is none."""
    fields = await read_fields(request, "state", "reason")
    try:
        return TakeStep(TenantState(fields["state"]), Reason(fields["reason"]))
    except ValueError:
        raise Invalid("there is no such state or reason", param="state") from None


def country_options(request: _PageRequest) -> list[tuple[str, str]]:
    """Codes and names, by name in the visitor's language; first the choice of none."""
    return [("", ""), *_countries(LOCALES[language_of(request)])]


def country_name(request: _PageRequest, code: str | None) -> str:
    return str(LOCALES[language_of(request)].territories.get(code or "", code or ""))


@cache
def _countries(locale: Locale) -> list[tuple[str, str]]:
    return sorted(((code, locale.territories[code]) for code in COUNTRIES), key=lambda pair: collated(pair[1]))


def collated(name: str) -> str:
    """Without accents, so that Égypte is among the Es."""
    return "".join(char for char in unicodedata.normalize("NFD", name.casefold()) if not unicodedata.combining(char))
