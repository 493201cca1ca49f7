"""The console's pages that create and change tenants."""

import secrets

import pytest

from chappe_tenants.operators.service import OperatorRole
from tests.organisations.world import DETAILS, Organisations
from tests.portal.reading import Element, read_page

FORM = {
    "legal_name": "Exemple SAS",
    "line_1": "1 rue de la Paix",
    "line_2": "",
    "postal_code": "75002",
    "city": "Paris",
    "country": "FR",
    "vat_number": "FR40303265045",
    "contact_name": "Camille",
    "contact_email": "camille@exemple.example",
    "contact_phone": "",
    "plan": "standard",
    "contract_reference": "",
    "parent": "",
    "relation": "subsidiary",
    "is_reseller": "",
    "regions": "fr-par",
}
NEW = {**FORM, "state": "applied", "legal_entity_id": "", "reference": ""}


async def read(world: Organisations, path: str, role: OperatorRole = OperatorRole.ADMINISTRATOR) -> Element:
    answer = await (await world.operator_visitor(role)).get(path)
    assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
    return read_page(answer.text)


async def test_a_tenant_is_created_on_the_page(world: Organisations) -> None:
    visitor = await world.operator_visitor()
    name = f"Seite {secrets.token_hex(4)}"
    answer = await visitor.post("/console/tenants/new", name=name, **NEW)
    assert answer.status_code == 303, read_page(answer.text).text
    page = read_page((await visitor.open(answer.headers["location"])).text)
    assert page.one("h1").text == name
    assert "Exemple SAS" in page.by_id("details").text and "France" in page.by_id("details").text
    assert page.by_id("states-table").rows()[0][1:] == ["Applied", "Operator"]


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("name", "", 400),
        ("line_1", "", 400),
        ("country", "", 400),
        ("vat_number", "FR1", 400),
        ("contact_email", "no address", 400),
        ("contact_phone", "0123", 400),
        ("plan", "", 400),
        ("parent", "ten_no", 400),
        ("regions", "nowhere", 400),
    ],
)
async def test_what_is_wrong_is_said_at_its_field(world: Organisations, field: str, value: str, status: int) -> None:
    visitor = await world.operator_visitor()
    answer = await visitor.post("/console/tenants/new", **{**NEW, "name": "Kept", field: value})
    assert answer.status_code == status
    page = read_page(answer.text)
    assert page.by_id(f"{field}-error").text
    if field != "name":
        assert page.by_id("name").attributes["value"] == "Kept"


async def test_a_verified_tenant_needs_its_details(world: Organisations) -> None:
    visitor = await world.operator_visitor()
    answer = await visitor.post("/console/tenants/new", **{**NEW, "name": "x", "legal_name": "", "state": "verified"})
    assert answer.status_code == 409
    assert "before the organisation is verified" in read_page(answer.text).by_id("legal_name-error").text


async def test_a_tenant_is_edited_and_its_jurisdictions_stay(world: Organisations) -> None:
    made = await world.create(**DETAILS, allowed_regions=["FR", "DE"])
    path = f"/console/tenants/{made['id']}"
    form = (await read(world, f"{path}/edit")).by_id("tenant-form")
    assert form.by_id("country").one("option", selected="").attributes["value"] == "FR"
    visitor = await world.operator_visitor()
    both = {**FORM, "name": "Renamed", "regions": ["fr-par", "de-fra"]}
    answer = await visitor.post(f"{path}/edit", **both)  # type: ignore[arg-type]
    assert answer.status_code == 303
    operator = await world.operator()
    changed = await operator.get(f"/operator/tenants/{made['id']}")
    assert (changed["name"], changed["allowed_regions"]) == ("Renamed", ["FR", "DE"])
    await visitor.post(f"{path}/edit", **{**both, "regions": "de-fra"})  # type: ignore[arg-type]
    assert (await operator.get(f"/operator/tenants/{made['id']}"))["allowed_regions"] == ["de-fra"]


async def test_who_is_known_and_how_much_of_a_busy_model_it_gets(world: Organisations) -> None:
    made = await world.organisation()
    visitor = await world.operator_visitor()
    path = f"/console/tenants/{made.public_id}"
    posted = {**FORM, "name": made.name}
    assert (await visitor.post(f"{path}/edit", **posted, verified="yes", share="7")).status_code == 303
    assert {"Known to us Yes", "Shares at busy models 7"} <= await _facts(world, path)
    assert (await visitor.post(f"{path}/edit", **posted)).status_code == 303
    assert "Shares at busy models 7" in await _facts(world, path), "who says nothing changes nothing"
    assert (await visitor.post(f"{path}/edit", **posted, verified="no", share="")).status_code == 303
    assert {"Known to us No", "Shares at busy models its plan's"} <= await _facts(world, path)
    for wrong in ("0", "1001", "-1", "two", "\u0662"):
        answer = await visitor.post(f"{path}/edit", **posted, verified="yes", share=wrong)
        assert answer.status_code == 400
        assert read_page(answer.text).by_id("share-error").text


async def _facts(world: Organisations, path: str) -> set[str]:
    text = (await read(world, path)).by_id("about").text
    return {
        fact
        for fact in ("Known to us Yes", "Known to us No", "Shares at busy models 7", "Shares at busy models its plan's")
        if fact in text
    }


async def test_steps_are_offered_taken_and_told(world: Organisations) -> None:
    made = await world.create(**DETAILS)
    path = f"/console/tenants/{made['id']}"
    visitor = await world.operator_visitor()
    page = await read(world, path)
    assert page.has("step-verified") and page.has("step-closed") and not page.has("step-active")
    await visitor.post(f"{path}/transitions", state="verified", reason="details_checked")
    await visitor.post(f"{path}/transitions", state="active", reason="contract_signed")
    page = await read(world, path)
    assert [row[1] for row in page.by_id("states-table").rows()] == [
        "Active Contract signed",
        "Verified Details checked",
        "Applied",
    ]
    # Somebody was faster.
    answer = await visitor.post(f"{path}/transitions", state="verified", reason="details_checked")
    assert "changed meanwhile" in (await visitor.open(answer.headers["location"])).text
    assert (await visitor.post(f"{path}/transitions", state="gone", reason="x")).status_code == 400


async def test_the_credit_limit_is_finances_to_set(world: Organisations) -> None:
    made = await world.create()
    path = f"/console/tenants/{made['id']}/credit-limit"
    finance = await world.operator_visitor(OperatorRole.FINANCE)
    assert (await finance.post(path, credit_limit="1500,5")).status_code == 303
    assert (await read(world, path, OperatorRole.FINANCE)).by_id("credit_limit").attributes["value"] == "1500.5"
    wrong = await finance.post(path, credit_limit="much")
    assert (wrong.status_code, read_page(wrong.text).by_id("credit_limit").attributes["value"]) == (400, "much")


@pytest.mark.parametrize("role", OperatorRole)
async def test_only_who_may_is_offered_and_let_do_it(world: Organisations, role: OperatorRole) -> None:
    made = await world.create(**DETAILS)
    path = f"/console/tenants/{made['id']}"
    page = await read(world, path, role)
    cares = role in {OperatorRole.ADMINISTRATOR, OperatorRole.SUPPORT}
    pays = role in {OperatorRole.ADMINISTRATOR, OperatorRole.FINANCE}
    links = {link.attributes.get("href") for link in page.all("a")}
    assert (f"{path}/edit" in links) is cares is page.has("step-verified")
    assert (f"{path}/credit-limit" in links) is pays
    visitor = await world.operator_visitor(role)
    step = await visitor.post(f"{path}/transitions", state="verified", reason="details_checked")
    assert step.status_code == (303 if cares else 403)


async def test_the_list_is_narrowed_to_a_state(world: Organisations) -> None:
    word = secrets.token_hex(6)
    one, other = await world.create(name=f"{word} a"), await world.create(name=f"{word} b")
    await world.step(other["id"], "closed", "rejected")
    page = await read(world, f"/console/tenants?q={word}&state=closed")
    assert [row[0] for row in page.by_id("tenants-table").rows()] == [f"{word} b {other['id']}"]
    page = await read(world, f"/console/tenants?q={word}")
    assert {row[0].split()[2] for row in page.by_id("tenants-table").rows()} == {one["id"], other["id"]}
    visitor = await world.operator_visitor()
    assert (await visitor.get("/console/tenants?state=unknown")).status_code == 400


async def test_relatives_are_linked_on_both_sides(world: Organisations) -> None:
    group = await world.create(name="Group SA")
    made = await world.create(name="Daughter SA", parent={"id": group["id"], "relation": "subsidiary"})
    assert (await read(world, f"/console/tenants/{group['id']}")).by_id("related-table").rows() == [
        ["Daughter SA", "Subsidiary", "Applied"]
    ]
    assert (await read(world, f"/console/tenants/{made['id']}")).by_id("related-table").rows() == [
        ["Group SA", "Group", "Applied"]
    ]
