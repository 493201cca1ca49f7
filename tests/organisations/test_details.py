"""What may stand in an organisation's legal details."""

import pytest

from chappe_kernel.errors import Conflict, Invalid
from chappe_tenants.organisations.countries import COUNTRIES
from chappe_tenants.organisations.details import (
    Address,
    Contact,
    Details,
    check_complete,
    check_own_change,
    clean_details,
)
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.vat_numbers import clean_vat_number

PARIS = Address(line_1=" 1 rue de la Paix ", city="Paris", country="FR")

# What the Commission and the neighbours publish as examples of their shapes, and numbers of well-known companies.
GOOD = [
    ("ATU12345678", "AT", "ATU12345678"),
    ("BE 0123.456.789", "BE", "BE0123456789"),
    ("CHE-123.456.788 MWST", "CH", "CHE123456788MWST"),
    ("che-123.456.788 tva", "CH", "CHE123456788TVA"),
    ("DE 136695976", "DE", "DE136695976"),
    ("136695976", "DE", "DE136695976"),
    ("EL123456789", "GR", "EL123456789"),
    ("123456789", "GR", "EL123456789"),
    ("ESB12345678", "ES", "ESB12345678"),
    ("FR 40 303 265 045", "FR", "FR40303265045"),
    ("FR 40 303 265 045", "MC", "FR40303265045"),
    ("GB 123 4567 89", "GB", "GB123456789"),
    ("XI123456789", "GB", "XI123456789"),
    ("IE1234567WA", "IE", "IE1234567WA"),
    ("IE1X23456X", "IE", "IE1X23456X"),
    ("NL004495445B01", "NL", "NL004495445B01"),
    ("NO 923 609 016 MVA", "NO", "NO923609016MVA"),
    ("SE556703748501", "SE", "SE556703748501"),
    # A company with its seat in one country may be registered in another.
    ("DE136695976", "FR", "DE136695976"),
    ("DE136695976", None, "DE136695976"),
    # Of others there is no shape to go by.
    ("12-3456789", "US", "123456789"),
]
BAD = [
    ("", "DE"),
    ("DE12345678", "DE"),
    ("DE1234567890", "DE"),
    ("DE13669597٦", "DE"),
    ("FR4O303265045", "FR"),
    ("FRIO303265045", "FR"),
    ("ATX12345678", "AT"),
    ("NL004495445C01", "NL"),
    ("SE556703748502", "SE"),
    ("CHE123456788", "CH"),
    ("136695976", None),
    ("DE136695976'; DROP TABLE tenant", "DE"),
    ("abc", "US"),
    ("x" * 21, "US"),
]


@pytest.mark.parametrize(("text", "country", "clean"), GOOD)
def test_a_vat_number_of_the_countrys_shape_is_cleaned(text: str, country: str | None, clean: str) -> None:
    assert clean_vat_number(text, country) == clean
    assert clean_vat_number(clean, country) == clean


@pytest.mark.parametrize(("text", "country"), BAD)
def test_another_shape_is_refused_and_not_shown(text: str, country: str | None) -> None:
    with pytest.raises(Invalid) as raised:
        clean_vat_number(text, country)
    assert (raised.value.code, raised.value.param) == ("invalid_vat_number", "vat_number")
    assert not text or text not in raised.value.message


def test_all_countries_are_there_once() -> None:
    assert len(COUNTRIES) == 249


def test_details_are_cleaned_and_what_is_left_out_is_left() -> None:
    contact = Contact(" Camille ", "Camille@Exemple.example", "+33 (1) 23 45-67.89")
    assert clean_details(Details(address=PARIS, contact=contact), country=None) == {
        "address_line_1": "1 rue de la Paix",
        "address_line_2": None,
        "postal_code": None,
        "city": "Paris",
        "country": "FR",
        "contact_name": "Camille",
        "contact_email": "camille@exemple.example",
        "contact_phone": "+33123456789",
    }
    assert clean_details(Details(), country="FR") == {}


def test_a_vat_number_without_prefix_is_of_the_address_that_comes_with_it() -> None:
    details = Details(address=PARIS, vat_number="40303265045")
    assert clean_details(details, country="DE")["vat_number"] == "FR40303265045"


@pytest.mark.parametrize(
    ("details", "param"),
    [
        (Details(name="a\nb"), "name"),
        (Details(legal_name="x" * 201), "legal_name"),
        (Details(address=Address(line_1="x", city="y", country="XX")), "address.country"),
        (Details(address=Address(line_1="\u202e", city="y", country="FR")), "address.line_1"),
        (Details(contact=Contact("x", "no address")), "contact.email"),
        (Details(contact=Contact("x", "a@b.example", "0123456789")), "contact.phone"),
        (Details(contact=Contact("x", "a@b.example", "+0123456789")), "contact.phone"),
        (Details(vat_number="x"), "vat_number"),
    ],
)
def test_what_is_wrong_is_named(details: Details, param: str) -> None:
    with pytest.raises(Invalid) as raised:
        clean_details(details, country="FR")
    assert raised.value.param == param


def test_what_was_verified_is_not_its_own_to_change() -> None:
    tenant = Tenant(state="active", legal_name="A", country="FR", vat_number=None)
    check_own_change(tenant, {"legal_name": "A", "name": "New", "vat_number": "FR40303265045"})
    for change, param in (({"legal_name": "B"}, "legal_name"), ({"country": None}, "address")):
        with pytest.raises(Conflict) as raised:
            check_own_change(tenant, change)
        assert (raised.value.code, raised.value.param) == ("verified_detail", param)
    tenant.state = "applied"
    check_own_change(tenant, {"legal_name": "B", "country": "DE"})


def test_what_is_missing_to_verify_is_named() -> None:
    known = {"legal_name": "A", "address_line_1": "x", "city": "y", "country": "FR", "contact_email": "a@b.example"}
    check_complete(known)
    for name in known:
        with pytest.raises(Conflict) as raised:
            check_complete({**known, name: None})
        assert (raised.value.code, raised.value.param) == ("details_missing", name)
