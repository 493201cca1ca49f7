"""Who an organisation is in law: what may be written there, when its own people may change it, and what the operator
needs to know before it verifies."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from chappe_kernel.errors import Conflict, Invalid
from chappe_tenants.naming import MAX_EMAIL_LENGTH, MAX_NAME_LENGTH, clean_email, clean_name
from chappe_tenants.organisations.countries import COUNTRIES
from chappe_tenants.organisations.lifecycle import TenantState
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.vat_numbers import clean_vat_number

MAX_LEGAL_NAME_LENGTH = 200
_PHONE = re.compile(r"\+[1-9][0-9]{5,14}", re.ASCII)
_PHONE_SEPARATORS = re.compile(r"[\s().\-/]+")

IDENTITY = ("legal_name", "country", "vat_number")
"""What the operator verifies, so the organisation itself cannot change it afterwards."""

NEEDED_TO_VERIFY = ("legal_name", "address_line_1", "city", "country", "contact_email")


Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, description="Without control characters.")]
LegalName = Annotated[
    str, Meta(min_length=1, max_length=MAX_LEGAL_NAME_LENGTH, description="As the register of companies has it.")
]
VatNumber = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=40,
        description="Blanks, dots and dashes are taken out; without its country's code the address's country counts.",
    ),
]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$", description="ISO 3166-1, two letters.")]


class Address(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As an invoice has it (EN 16931, BG-8)."""

    line_1: Name
    line_2: Name | None = None
    postal_code: Name | None = None
    city: Name
    country: Country


class Contact(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom the operator writes to and calls."""

    name: Name
    email: Annotated[str, Meta(min_length=3, max_length=MAX_EMAIL_LENGTH)]
    phone: Annotated[str, Meta(max_length=40, description="With + and the country's code.")] | None = None


class Details(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change; whatever is left out stays. An address or a contact is replaced as a whole."""

    name: Name | UnsetType = UNSET
    legal_name: LegalName | UnsetType | None = UNSET
    address: Address | UnsetType | None = UNSET
    vat_number: VatNumber | UnsetType | None = UNSET
    contact: Contact | UnsetType | None = UNSET


def clean_details(details: Details, *, country: str | None) -> dict[str, Any]:
    """The tenant's columns that `details` sets, by name. `country` is the tenant's as it is.

    Raises `Invalid` naming the field.
    """
    values: dict[str, Any] = {}
    if details.name is not UNSET:
        values["name"] = clean_name(details.name, param="name")
    if details.legal_name is not UNSET:
        values["legal_name"] = _optional_name(details.legal_name, "legal_name", MAX_LEGAL_NAME_LENGTH)
    if details.address is not UNSET:
        values |= clean_address(details.address)
    if details.vat_number is not UNSET:
        number = details.vat_number
        values["vat_number"] = number and clean_vat_number(number, values.get("country", country))
    if details.contact is not UNSET:
        values |= _clean_contact(details.contact)
    return values


def fixed_details(tenant: Tenant) -> tuple[str, ...]:
    """What of its identity the organisation's own people cannot change.

    While it applies that is nothing; later all that there is. What is missing they may add.
    """
    if tenant.state == TenantState.APPLIED:
        return ()
    return tuple(name for name in IDENTITY if getattr(tenant, name) is not None)


def check_own_change(tenant: Tenant, values: Mapping[str, Any]) -> None:
    """Whether the organisation's own people may set these columns. Raises `Conflict`."""
    for name in fixed_details(tenant):
        if name in values and values[name] != getattr(tenant, name):
            param = "address" if name == "country" else name
            raise Conflict(f"ask the operator to change {name}: it was verified", code="verified_detail", param=param)


def check_complete(known: Mapping[str, Any]) -> None:
    """Raises `Conflict` naming the columns that the operator must know before it verifies, and does not."""
    missing = [name for name in NEEDED_TO_VERIFY if known.get(name) is None]
    if missing:
        raise Conflict(f"to verify it, first say: {', '.join(missing)}", code="details_missing", param=missing[0])


def details_of(tenant: Tenant) -> dict[str, Any]:
    """The columns that `check_complete` looks at."""
    return {name: getattr(tenant, name) for name in NEEDED_TO_VERIFY}


def clean_address(address: Address | None) -> dict[str, str | None]:
    """The columns of an address, all of them. Raises `Invalid` naming the field."""
    if address is None:
        return dict.fromkeys(("address_line_1", "address_line_2", "postal_code", "city", "country"))
    if address.country not in COUNTRIES:
        raise Invalid("country is no code of ISO 3166-1, like FR", code="invalid_country", param="address.country")
    return {
        "address_line_1": clean_name(address.line_1, param="address.line_1"),
        "address_line_2": _optional_name(address.line_2, "address.line_2"),
        "postal_code": _optional_name(address.postal_code, "address.postal_code"),
        "city": clean_name(address.city, param="address.city"),
        "country": address.country,
    }


def _clean_contact(contact: Contact | None) -> dict[str, str | None]:
    if contact is None:
        return dict.fromkeys(("contact_name", "contact_email", "contact_phone"))
    return {
        "contact_name": clean_name(contact.name, param="contact.name"),
        "contact_email": clean_email(contact.email, param="contact.email"),
        "contact_phone": None if contact.phone is None else _clean_phone(contact.phone),
    }


def _clean_phone(text: str) -> str:
    """With the country's code in front and digits only (E.164)."""
    number = _PHONE_SEPARATORS.sub("", text)
    if not _PHONE.fullmatch(number):
        raise Invalid(
            "a phone number begins with + and the country's code", code="invalid_phone", param="contact.phone"
        )
    return number


def _optional_name(text: str | None, param: str, max_length: int = MAX_NAME_LENGTH) -> str | None:
    return None if text is None else clean_name(text, param=param, max_length=max_length)
