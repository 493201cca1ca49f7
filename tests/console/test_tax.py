"""Tax in the console: what waits is listed and taken up again, rates show their next one, and rulings are kept."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from chappe_billing.documents.models import Paper
from chappe_billing.documents.queries import Unrendered, insert_documents, put_refusal
from chappe_billing.tax.checking import note_new_numbers
from chappe_billing.tax.models import VatRate
from chappe_control.console.tax.rates import rates_by_country
from chappe_kernel.ids import INVOICE, TENANT, encode_id, new_id
from chappe_tenants.operators.service import OperatorRole
from tests.console.world import ConsoleWorld, show
from tests.portal.reading import read_page

NUMBER = "DE123456789"


async def a_checked_tenant(console: ConsoleWorld, name: str) -> UUID:
    """With a number that nobody has answered about, after two tries in vain."""
    tenant = await console.tenant(name)
    await console.sql("UPDATE tenant SET country = 'DE', vat_number = $2 WHERE id = $1", tenant.id, NUMBER)
    await note_new_numbers(console.database)
    await console.sql(
        "UPDATE vat_check SET attempts = 2, last_error = 'MS_UNAVAILABLE', due_at = now() + interval '1 hour' "
        "WHERE tenant_id = $1",
        tenant.id,
    )
    return tenant.id


async def a_refused_invoice(console: ConsoleWorld, tenant_id: UUID) -> tuple[UUID, str]:
    invoice_id, number = new_id(), f"R-{new_id().hex}"
    of = Unrendered(invoice_id, tenant_id, {})
    async with console.database.operator() as session:
        await session.execute(
            text(
                "INSERT INTO invoice (id, kind, legal_entity_id, tenant_id, currency, minor_digits, series, ordinal, "
                "number, issued_on, cut_off_at, net_minor, tax_minor, gross_minor, content) SELECT :id, 'invoice', "
                "legal_entity_id, id, currency, 2, :number, 1, :number, DATE '2026-11-01', now(), 1, 0, 1, '{}' "
                "FROM tenant WHERE id = :tenant"
            ),
            {"id": invoice_id, "number": number, "tenant": tenant_id},
        )
        # With a document already, so that the control plane's own worker leaves it as the test has it.
        await insert_documents(session, of, {Paper.XML: b"<x/>"}, renderer="tests", keep_until=date(2037, 1, 1))
        await put_refusal(session, invoice_id, "tests", ("BR-CO-16: Amount due: what is owed", "letter: no font"))
    return invoice_id, number


async def test_a_number_without_an_answer_is_listed_and_checked_again(console: ConsoleWorld) -> None:
    tenant_id = await a_checked_tenant(console, f"Waiting {new_id()}")
    public = encode_id(TENANT, tenant_id)
    rows = (await console.read("/console/tax")).by_id("checks-table").all("tr")
    (row,) = (row for row in rows if any(a.attributes["href"].endswith(f"{public}/tax") for a in row.all("a")))
    assert NUMBER in row.text and "Being checked" in row.text and "2 tries in vain · MS_UNAVAILABLE" in row.text
    (form,) = row.all("form")
    finance = await console.operator(OperatorRole.FINANCE)
    assert (await finance.post(form.attributes["action"])).status_code == 303
    assert "checked within seconds" in (await finance.get("/console/tax")).text
    due = await console.sql("SELECT due_at <= now(), attempts FROM vat_check WHERE tenant_id = $1", tenant_id)
    assert due == [(True, 0)]


async def test_who_has_no_number_has_nothing_to_check(console: ConsoleWorld) -> None:
    tenant = await console.tenant(f"No number {new_id()}")
    visitor = await console.operator()
    assert (await visitor.post(f"/console/tax/checks/{show(tenant)}")).status_code == 303
    assert "no VAT number that could be checked" in (await visitor.get("/console/tax")).text
    assert (await visitor.post("/console/tax/checks/ten_00000000000000000000000000")).status_code == 404


async def test_a_refused_document_says_which_rule_and_is_tried_again(console: ConsoleWorld) -> None:
    tenant = await console.tenant(f"Refused {new_id()}")
    invoice_id, number = await a_refused_invoice(console, tenant.id)
    rows = (await console.read("/console/tax")).by_id("refusals-table").all("tr")
    (row,) = (row for row in rows if number in row.text)
    assert [code.text for code in row.all("code")] == ["BR-CO-16", "letter"]
    assert "Amount due: what is owed" in row.text and "Refused" in row.text
    (form,) = row.all("form")
    assert form.attributes["action"] == f"/console/tax/refusals/{encode_id(INVOICE, invoice_id)}"
    visitor = await console.operator()
    for said in ("tried again within a minute", "not refused any more"):
        assert (await visitor.post(form.attributes["action"])).status_code == 303
        assert said in (await visitor.get("/console/tax")).text
    assert number not in (await console.read("/console/tax")).text


async def test_a_country_shows_its_rate_and_the_next_one(console: ConsoleWorld) -> None:
    rate = {"country": "EE", "starts_on": "2099-01-01", "rate_bp": 2650, "source": "a law of the future"}
    await console.sql(
        "INSERT INTO vat_rate (id, country, starts_on, rate_bp, source) VALUES ($1, $2, $3, $4, $5)",
        new_id(),
        rate["country"],
        date(2099, 1, 1),
        rate["rate_bp"],
        rate["source"],
    )
    rows = (await console.read("/console/tax")).by_id("rates-table").rows()
    (estonia,) = (row for row in rows if row[0].startswith("Estonia"))
    assert estonia[1] == "24%" and estonia[3] == "26.5%" and "a law of the future" in estonia[4]
    (france,) = (row for row in rows if row[0].startswith("France"))
    assert (france[1], france[3]) == ("20%", "\N{EN DASH}")


def test_the_next_rate_is_the_nearest_and_of_two_for_a_day_the_later_word() -> None:
    today = date(2026, 11, 1)
    days = [today + timedelta(days=30), today + timedelta(days=10), today + timedelta(days=10), today, date(2020, 1, 1)]
    rates = [
        VatRate(id=new_id(), country="FR", starts_on=day, rate_bp=rate_bp, source="test")
        for day, rate_bp in zip(days, (2400, 2300, 2200, 2100, 2000), strict=True)
    ]
    foreign = VatRate(id=new_id(), country="XX", starts_on=today + timedelta(days=1), rate_bp=100, source="test")
    france, other = rates_by_country([*rates, foreign], today)
    assert (france.now, france.next) == (rates[3], rates[1])
    assert (other.country, other.now, other.next) == ("XX", None, foreign)


async def test_a_ruling_goes_before_the_rules_until_it_is_ended(console: ConsoleWorld) -> None:
    tenant = await console.tenant(f"Ruled {new_id()}")
    path = f"/console/tenants/{show(tenant)}/tax"
    assert "Undecided" in (await console.read(path)).by_id("tax").text
    visitor = await console.operator(OperatorRole.FINANCE)
    page = read_page((await visitor.get(f"{path}?rule=1")).text)
    once = page.by_id("ruling-form").one("input", name="once").attributes["value"]
    posted = {
        "category": "S",
        "rate": "8,5",
        "starts_on": "",
        "reason": "Set by the office in Saint-Denis",
        "once": once,
    }
    for _ in range(2):
        assert (await visitor.post(f"{path}/rulings", **posted)).status_code == 303
    page = await console.read(path)
    (ruling,) = page.by_id("rulings-table").rows()
    assert ruling[1:4] == ["8.5% VAT", "In force", "Set by the office in Saint-Denis"]
    assert "A ruling decides." in page.by_id("tax").text and "8.5% VAT" in page.by_id("tax").text
    later = (datetime.now(UTC) + timedelta(days=9)).date().isoformat()
    ended = {"category": "rules", "rate": "", "starts_on": later, "reason": "Moved away"}
    assert (await visitor.post(f"{path}/rulings", **ended)).status_code == 303
    states = [row[1:3] for row in (await console.read(path)).by_id("rulings-table").rows()]
    assert states == [["By the rules again", "Scheduled"], ["8.5% VAT", "In force"]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("category", "X"),
        ("rate", "60"),
        ("rate", "many"),
        ("rate", ""),
        ("starts_on", "2020-01-01"),
        ("starts_on", "soon"),
        ("reason", " "),
        ("reason", "x" * 501),
    ],
)
async def test_what_is_wrong_with_a_ruling_is_said_at_its_field(console: ConsoleWorld, field: str, value: str) -> None:
    tenant = await console.tenant(f"Wrong {new_id()}")
    path = f"/console/tenants/{show(tenant)}/tax"
    posted = {"category": "S", "rate": "20", "starts_on": "", "reason": "kept", field: value}
    answer = await (await console.operator()).post(f"{path}/rulings", **posted)
    assert answer.status_code == 400
    page = read_page(answer.text)
    assert page.by_id(f"{field}-error").text
    assert field == "reason" or page.by_id("reason").attributes["value"] == "kept"
    assert await console.sql("SELECT 1 FROM tax_ruling WHERE tenant_id = $1", tenant.id) == []


@pytest.mark.parametrize("role", [OperatorRole.SUPPORT, OperatorRole.AUDITOR])
async def test_who_decides_nothing_sees_it_without_forms(console: ConsoleWorld, role: OperatorRole) -> None:
    tenant_id = await a_checked_tenant(console, f"Seen {new_id()}")
    invoice_id, number = await a_refused_invoice(console, tenant_id)
    page = await console.read("/console/tax", role)
    assert number in page.text and NUMBER in page.text
    assert page.by_id("checks").all("form") == page.by_id("refusals").all("form") == []
    path = f"/console/tenants/{encode_id(TENANT, tenant_id)}/tax"
    assert not (await console.read(f"{path}?rule=1", role)).has("ruling-form")
    visitor = await console.operator(role)
    for action in (f"/console/tax/refusals/{encode_id(INVOICE, invoice_id)}", f"{path}/rulings"):
        assert (await visitor.post(action, category="AE", reason="x")).status_code == 403


async def test_a_tenant_that_does_not_exist_has_no_page(console: ConsoleWorld) -> None:
    path = "/console/tenants/ten_00000000000000000000000000/tax"
    visitor = await console.operator()
    assert (await visitor.get(path)).status_code == 404
    assert (await visitor.post(f"{path}/rulings", category="AE", reason="x")).status_code == 404
