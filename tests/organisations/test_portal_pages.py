"""The portal's pages of the organisation and of a reseller's customers."""

import pytest

from chappe_tenants.members.service import Role
from tests.organisations.test_console_pages import FORM
from tests.organisations.world import DETAILS, Organisation, Organisations
from tests.portal.reading import read_page

DETAIL_FIELDS = {name: value for name, value in FORM.items() if name not in {"plan", "parent", "relation"}}


async def change_role(world: Organisations, made: Organisation, role: Role) -> None:
    # Around the rule that somebody owns it.
    async with world.control.engine.connect() as connection:
        await connection.exec_driver_sql("SET session_replication_role = replica")
        await connection.exec_driver_sql("UPDATE member SET role = $1 WHERE tenant_id = $2", (role.value, made.id))


async def test_the_organisation_is_shown_and_edited(world: Organisations) -> None:
    made = await world.organisation()
    page = await made.read("/organisation")
    assert "Active" in page.by_id("organisation").text and made.name in page.by_id("organisation").text
    answer = await made.visitor.post("/organisation", **{**DETAIL_FIELDS, "name": "New name"})
    assert answer.status_code == 303, read_page(answer.text).text
    assert "Exemple SAS" in (await made.read("/organisation")).by_id("details").text
    view = await made.api.get("/organisation")
    assert (view["name"], view["allowed_regions"]) == ("New name", ["fr-par"])


async def test_what_was_verified_is_shown_and_not_offered(world: Organisations) -> None:
    made = await world.organisation()
    await made.api.change("/organisation", DETAILS)
    form = (await made.read("/organisation?edit=1")).by_id("organisation-form")
    assert "readonly" in form.by_id("legal_name").attributes and "readonly" in form.by_id("vat_number").attributes
    assert not form.has("country") and form.one("input", name="country").attributes["value"] == "FR"
    values = {
        name: form.by_id(name).attributes["value"]
        for name in ("legal_name", "line_1", "line_2", "postal_code", "city", "vat_number")
    }
    contact = {
        name: form.by_id(name).attributes["value"] for name in ("contact_name", "contact_email", "contact_phone")
    }
    posted = {**values, **contact, "country": "FR", "name": "Other name", "regions": ["fr-par", "de-fra"]}
    assert (await made.visitor.post("/organisation", **posted)).status_code == 303  # type: ignore[arg-type]
    forged = await made.visitor.post("/organisation", **{**posted, "legal_name": "Forged"})  # type: ignore[arg-type]
    assert forged.status_code == 409
    assert "was verified" in read_page(forged.text).by_id("legal_name-error").text


async def test_how_long_regions_keep_content_is_chosen_among_what_is_offered(world: Organisations) -> None:
    made = await world.organisation()
    posted = {**DETAIL_FIELDS, "name": made.name}
    chosen = {"content_kept_for_s": "604800", "answers_kept_for_s": "600"}
    assert (await made.visitor.post("/organisation", **posted, **chosen)).status_code == 303
    shown = (await made.read("/organisation")).by_id("organisation").text
    assert "7 days" in shown and "10 minutes" in shown
    view = await made.api.get("/organisation")
    assert (view["content_kept_for_s"], view["answers_kept_for_s"]) == (604800, 600)
    assert (await made.visitor.post("/organisation", **posted)).status_code == 303
    assert (await made.api.get("/organisation"))["content_kept_for_s"] == 604800, "who says nothing changes nothing"
    refused = await made.visitor.post("/organisation", **posted, content_kept_for_s="99999999")
    assert refused.status_code == 400
    assert read_page(refused.text).by_id("content_kept_for_s-error").text


@pytest.mark.parametrize(("field", "value"), [("vat_number", "FR1"), ("contact_email", "x"), ("regions", "nowhere")])
async def test_what_is_wrong_is_said_at_its_field(world: Organisations, field: str, value: str) -> None:
    made = await world.organisation()
    answer = await made.visitor.post("/organisation", **{**DETAIL_FIELDS, "name": "Kept", field: value})
    assert answer.status_code == 400
    page = read_page(answer.text)
    assert page.by_id(f"{field}-error").text and page.by_id("name").attributes["value"] == "Kept"


@pytest.mark.parametrize("role", Role)
async def test_only_who_may_edit_is_offered_the_form(world: Organisations, role: Role) -> None:
    made = await world.organisation()
    await change_role(world, made, role)
    page = await made.read("/organisation?edit=1")
    assert page.has("organisation-form") is (role in {Role.OWNER, Role.ADMIN})


@pytest.mark.parametrize(
    ("state", "reason", "notice"),
    [("active", None, None), ("suspended", "unpaid", "Your organisation is suspended")],
)
async def test_every_page_says_so_while_it_is_suspended(
    world: Organisations, state: str, reason: str | None, notice: str | None
) -> None:
    made = await world.organisation()
    if reason is not None:
        await world.step(made.id, state, reason)
    for path in ("/overview", "/requests", "/keys", "/organisation"):
        page = await made.read(path)
        assert ("Your organisation is suspended" in page.text) is (notice is not None)
    assert (await made.read("/organisation?edit=1")).has("organisation-form") is (notice is None)
    assert (await made.visitor.get("/playground")).status_code == (403 if notice else 200)


async def test_a_reseller_makes_edits_and_suspends_a_customer(world: Organisations) -> None:
    reseller = await world.reseller()
    assert "/customers" in {link.attributes["href"] for link in (await reseller.read("/organisation")).all("a")}
    answer = await reseller.visitor.post("/customers/new", **{**DETAIL_FIELDS, "name": "Kundin AG"})
    assert answer.status_code == 303, read_page(answer.text).text
    path = answer.headers["location"]
    page = await reseller.read(path)
    assert page.one("h1").text == "Kundin AG" and page.has("step-closed") and not page.has("step-verified")
    await reseller.visitor.post(path, **{**DETAIL_FIELDS, "name": "Kundin SE"})
    customer = path.removeprefix("/customers/")
    for state, reason in (("verified", "details_checked"), ("active", "contract_signed")):
        await world.step(customer, state, reason)
    await reseller.visitor.post(f"{path}/transitions", state="suspended", reason="unpaid")
    about = (await reseller.read(path)).by_id("about").text
    assert "Suspended" in about and "Not paid" in about and "Your organisation" in about
    rows = (await reseller.read("/customers")).by_id("customers-table").rows()
    assert [row[:4] for row in rows] == [["Kundin SE", "Suspended", "fr-par", "FR"]]


async def test_nobody_elses_customer_has_a_page(world: Organisations) -> None:
    reseller, other = await world.reseller(), await world.reseller()
    made = await reseller.api.post("/customers", {"name": "Mine"}, 201)
    path = f"/customers/{made['id']}"
    assert (await other.visitor.get(path)).status_code == 404
    assert (await other.visitor.post(path, **{**DETAIL_FIELDS, "name": "Yours"})).status_code == 404
    step = await other.visitor.post(f"{path}/transitions", state="closed", reason="requested")
    assert step.status_code == 404
    assert "Mine" not in (await other.visitor.get("/customers")).text


async def test_who_is_no_reseller_reads_so(world: Organisations) -> None:
    made = await world.organisation()
    assert "no reseller" in (await made.read("/customers")).text
    assert (await made.visitor.get("/customers/new")).status_code == 403
    assert (await made.visitor.post("/customers/new", **{**DETAIL_FIELDS, "name": "x"})).status_code == 403


@pytest.mark.parametrize("language", ["fr", "de"])
async def test_countries_are_named_in_the_visitors_language(world: Organisations, language: str) -> None:
    made = await world.organisation()
    made.visitor.language = language
    options = (await made.read("/organisation?edit=1")).by_id("country").all("option")
    names = {option.attributes["value"]: option.text for option in options}
    assert names["DE"] == {"fr": "Allemagne", "de": "Deutschland"}[language]
