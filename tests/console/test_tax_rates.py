"""Scheduling a VAT rate in the console: it holds from its day on, and is taken back; what is wrong is said."""

from datetime import UTC, date, datetime, timedelta

import pytest

from chappe_billing.tax.models import VatRate
from chappe_control.console.tax.rates import spans_of
from chappe_kernel.ids import new_id
from chappe_tenants.operators.service import OperatorRole
from tests.console.world import ConsoleWorld
from tests.portal.reading import Element, read_page

_TYPED = {"country": "NO", "rate": "25,5 %", "source": "Stortinget"}


def a_day() -> date:
    """That nobody else has drawn."""
    return date(2100, 1, 1) + timedelta(days=new_id().int % 100_000)


async def rows_of(console: ConsoleWorld, table: str, day: date) -> list[Element]:
    """Norway's of a day's year: its last day is what tells one from another."""
    page = await console.read("/console/tax/rates")
    return [row for row in page.by_id(table).all("tr") if "NO" in row.text and str(day.year) in row.text]


async def test_a_rate_is_scheduled_once_and_taken_back(console: ConsoleWorld) -> None:
    day = a_day()
    finance = await console.operator(OperatorRole.FINANCE)
    once = read_page((await finance.get("/console/tax/rates")).text).by_id("schedule-form")
    token = once.one("input", name="once").attributes["value"]
    for _ in range(2):
        answer = await finance.post("/console/tax/rates", **_TYPED, starts_on=day.isoformat(), once=token)
        assert answer.status_code == 303
    kept = "SELECT rate_bp, source FROM vat_rate WHERE country = 'NO' AND starts_on = $1"
    assert await console.sql(kept, day) == [(2550, "Stortinget")]
    told = "SELECT count(*) FROM audit_entry WHERE noun = 'vat_rate' AND after::jsonb ->> 'starts_on' = $1"
    assert await console.sql(told, day.isoformat()) == [(1,)]
    assert await rows_of(console, "scheduled-table", day) and await rows_of(console, "spans-table", day)
    target = f"/console/tax/rates/NO/{day}/withdrawal"
    assert (await finance.post(target)).status_code == 303
    assert "is taken back" in (await finance.get("/console/tax/rates")).text
    assert (await finance.post(target)).status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("country", value) for value in ("", "XX")),
        *(("rate", value) for value in ("", "0", "51", "many")),
        *(("starts_on", value) for value in ("", "soon", "2026-01-01")),
        *(("source", value) for value in (" ", "x" * 201)),
    ],
)
async def test_what_is_wrong_with_a_rate_is_said_at_its_field(console: ConsoleWorld, field: str, value: str) -> None:
    finance = await console.operator(OperatorRole.FINANCE)
    answer = await finance.post("/console/tax/rates", **{**_TYPED, "starts_on": "2099-12-31", field: value})
    page = read_page(answer.text)
    assert answer.status_code == 400 and page.by_id(f"{field}-error").text
    assert page.by_id("source").attributes["value"] == (value if field == "source" else "Stortinget")


async def test_a_rate_that_has_begun_stays(console: ConsoleWorld) -> None:
    finance = await console.operator(OperatorRole.FINANCE)
    assert (await finance.post("/console/tax/rates/FI/2026-01-01/withdrawal")).status_code == 303
    assert "has begun" in (await finance.get("/console/tax/rates")).text
    assert (await finance.post("/console/tax/rates/FI/nonsense/withdrawal")).status_code == 404


@pytest.mark.parametrize("role", OperatorRole)
async def test_only_treasurers_are_offered_the_form(console: ConsoleWorld, role: OperatorRole) -> None:
    visitor = await console.operator(role)
    page = read_page((await visitor.get("/console/tax/rates")).text)
    assert page.has("schedule-form") is (role in {OperatorRole.ADMINISTRATOR, OperatorRole.FINANCE})
    assert page.by_id("spans-table").rows()


def test_what_holds_when_has_no_gap_and_the_later_word() -> None:
    now = datetime.now(UTC)

    def rate(country: str, starts_on: date, rate_bp: int) -> VatRate:
        return VatRate(
            id=new_id(), country=country, starts_on=starts_on, rate_bp=rate_bp, source="a law", created_at=now
        )

    first, second, third = date(2026, 1, 1), date(2026, 7, 1), date(2027, 1, 1)
    rates = [
        *(rate("DE", third, 2100), rate("DE", third, 2200), rate("DE", second, 1600), rate("DE", first, 1900)),
        rate("FR", first, 2000),
    ]
    found = [(one.rate.country, one.rate.rate_bp, one.rate.starts_on, one.until) for one in spans_of(rates)]
    assert found == [
        ("DE", 2100, third, None),
        ("DE", 1600, second, third - timedelta(days=1)),
        ("DE", 1900, first, second - timedelta(days=1)),
        ("FR", 2000, first, None),
    ]
