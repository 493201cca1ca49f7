"""The page of billing details: how the organisation is taxed and why, and what stands on its invoices."""

import re

import pytest

from chappe_billing.tax.checking import note_new_numbers
from chappe_billing.tax.deciding import NumberState
from chappe_billing.tax.service import record_answer
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.members.service import Role
from tests.organisations.test_portal_pages import change_role
from tests.organisations.world import DETAILS, Organisation, Organisations
from tests.portal.reading import read_page

# Of KoSIT's specification, with its check digits.
LEITWEG_ID = "04011000-1234512345-06"
PROFILE = {
    "purchase_order": "PO-4711",
    "buyer_reference": LEITWEG_ID,
    "invoice_email": "books@exemple.example",
    "language": "de",
    "split_by_project": "on",
}


async def sold_from_france(world: Organisations) -> None:
    await world.sql(
        "UPDATE legal_entity SET country = 'FR', postal_code = '75007' WHERE id = $1", DEFAULT_LEGAL_ENTITY_ID
    )


async def moved(world: Organisations, made: Organisation, country: str, vat_number: str | None) -> None:
    await world.sql(
        "UPDATE tenant SET legal_name = 'Beispiel GmbH', address_line_1 = 'Weg 1', city = 'Stadt', country = $2, "
        "vat_number = $3 WHERE id = $1",
        made.id,
        country,
        vat_number,
    )


async def test_what_is_missing_is_named_with_the_way_to_add_it(world: Organisations) -> None:
    await sold_from_france(world)
    made = await world.organisation()
    page = await made.read("/billing-details")
    missing = page.by_id("missing")
    assert "the legal name, the address, the country" in missing.text
    assert [link.attributes["href"] for link in missing.all("a")] == ["/organisation?edit=1"]
    assert "Your country is not known yet" in page.by_id("tax-reason").text
    assert "Undecided" in page.by_id("tax").text
    await made.api.change("/organisation", DETAILS)
    page = await made.read("/billing-details")
    assert not page.has("missing")
    assert "You are in your provider's country" in page.by_id("tax-reason").text
    assert "20% VAT" in page.by_id("tax").text and "France" in page.by_id("tax").text


async def test_a_number_shows_its_check_and_the_proof_of_it(world: Organisations) -> None:
    await sold_from_france(world)
    made = await world.organisation()
    await moved(world, made, "DE", "DE123456789")
    await note_new_numbers(world.control.database)
    page = await made.read("/billing-details")
    assert "Being checked" in page.by_id("vat-number").text and "Next check" in page.by_id("vat-number").text
    assert "is being checked" in page.by_id("tax-reason").text
    async with world.control.database.operator() as session:
        await record_answer(
            session,
            made.scope,
            vat_number="DE123456789",
            outcome=NumberState.CONFIRMED,
            consultation_number="WAPIAAAAYx0000",
        )
    page = await made.read("/billing-details")
    number = page.by_id("vat-number").text
    assert "Confirmed" in number and "WAPIAAAAYx0000" in number and re.search(r"Checked \d", number)
    assert "you declare it in your country" in page.by_id("tax-reason").text
    assert "Reverse charge" in page.by_id("tax").text
    other = await world.organisation()
    assert "WAPIAAAAYx0000" not in (await other.visitor.get("/billing-details")).text


async def test_a_ruling_is_shown_with_its_reason(world: Organisations) -> None:
    made = await world.organisation()
    body = {"category": "O", "reason": "An agency of the Union"}
    await (await world.operator()).post(f"/operator/tenants/{made.public_id}/tax-rulings", body, 201)
    page = await made.read("/billing-details")
    assert "An agency of the Union" in page.by_id("tax-reason").text and "Not subject to VAT" in page.by_id("tax").text


async def test_a_number_from_outside_the_union_is_not_checked(world: Organisations) -> None:
    await sold_from_france(world)
    made = await world.organisation()
    await moved(world, made, "CH", "CHE123456788")
    page = await made.read("/billing-details")
    assert "Not checked" in page.by_id("vat-number").text
    assert "not subject to its VAT" in page.by_id("tax-reason").text


async def test_the_profile_is_kept_and_an_empty_field_forgets(world: Organisations) -> None:
    made, other = await world.organisation(), await world.organisation()
    assert "Factur-X" in (await made.read("/billing-details")).by_id("terms").text
    assert (await made.visitor.post("/billing-details", **PROFILE)).status_code == 303
    page = await made.read("/billing-details")
    form = page.by_id("billing-details-form")
    assert form.by_id("purchase_order").attributes["value"] == "PO-4711"
    assert "checked" in form.one("input", name="split_by_project").attributes
    assert "XRechnung" in page.by_id("terms").text and "from the next invoice on" in page.text
    view = await made.api.get("/billing-profile")
    assert {name: view[name] for name in PROFILE} == {**PROFILE, "split_by_project": True}
    assert (await other.api.get("/billing-profile"))["purchase_order"] is None
    assert "PO-4711" not in (await other.visitor.get("/billing-details")).text
    assert (await made.visitor.post("/billing-details", language="en")).status_code == 303
    view = await made.api.get("/billing-profile")
    assert [view[name] for name in PROFILE] == [None, None, None, "en", False]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("purchase_order", "x" * 101),
        ("buyer_reference", "two\nlines"),
        ("invoice_email", "nobody"),
        ("language", "it"),
        ("language", ""),
    ],
)
async def test_what_is_wrong_is_said_at_its_field_and_nothing_changes(
    world: Organisations, field: str, value: str
) -> None:
    made = await world.organisation()
    answer = await made.visitor.post("/billing-details", **{**PROFILE, "split_by_project": "", field: value})
    assert answer.status_code == 400
    page = read_page(answer.text)
    assert page.by_id(f"{field}-error").text
    if field != "purchase_order":
        assert page.by_id("purchase_order").attributes["value"] == "PO-4711"
    assert (await made.api.get("/billing-profile"))["purchase_order"] is None


@pytest.mark.parametrize("role", Role)
async def test_only_who_manages_billing_is_offered_the_form(world: Organisations, role: Role) -> None:
    made = await world.organisation()
    await change_role(world, made, role)
    page = await made.read("/billing-details")
    may = role in {Role.OWNER, Role.ADMIN, Role.BILLING}
    assert page.has("billing-details-form") is may
    links = [link.attributes["href"] for link in page.by_id("missing").all("a")]
    assert bool(links) is (role in {Role.OWNER, Role.ADMIN})
    assert (await made.visitor.post("/billing-details", **PROFILE)).status_code == (303 if may else 403)


@pytest.mark.parametrize(("language", "said"), [("fr", "de TVA"), ("de", "Umsatzsteuer")])
async def test_it_is_said_in_the_visitors_language(world: Organisations, language: str, said: str) -> None:
    await sold_from_france(world)
    made = await world.organisation()
    await made.api.change("/organisation", DETAILS)
    visitor = world.visitor(language)
    await visitor.sign_in(made.email)
    assert said in read_page((await visitor.get("/billing-details")).text).by_id("tax").text
