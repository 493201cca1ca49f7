"""Usage, revenue and the ledger agree to the nano, after any traffic, and the page says so loudly when they don't."""

import asyncio
import random
from collections import defaultdict
from datetime import timedelta

import pytest

from chappe_control.console.revenue.hours import HourBook
from chappe_store.queries import read_now
from tests.console.world import CHAT, EMBEDDINGS, ConsoleWorld, Used
from tests.portal.reading import Element, nano, number, read_page

REGIONS = ("fr-par", "de-fra")
_OF_WRITE_OFFS = "account_id IN (SELECT id FROM ledger_account WHERE kind = 'write_off')"
_HOURS_BACK = timedelta(hours=5)


async def make_traffic(console: ConsoleWorld, seed: int) -> dict[tuple[str, str], Used]:
    """Random requests of several tenants in two regions, some with less money than they use."""
    rng = random.Random(seed)  # noqa: S311 -- traffic, no secrets
    tenants = [
        await console.tenant(f"Tenant {seed}-{index}", funds_nano=funds)
        for index, funds in enumerate((10**10, 10**9, 50_000, 1))
    ]
    total: dict[tuple[str, str], Used] = defaultdict(Used)
    for _ in range(8):
        region = rng.choice(REGIONS)
        for model, used in (await console.cell(region).spend(rng.choice(tenants), rng, rng.randint(1, 9))).items():
            sums = total[region, model]
            sums.requests += used.requests
            sums.prompt_tokens += used.prompt_tokens
            sums.completion_tokens += used.completion_tokens
            sums.rated_nano += used.rated_nano
    return total


@pytest.fixture(scope="module")
async def used(console: ConsoleWorld) -> dict[tuple[str, str], Used]:
    return await make_traffic(console, 1)


def line(page: Element, table: str, name: str) -> list[str]:
    (row,) = (row for row in page.by_id(table).rows() if row[0] == name)
    return row


async def booked(console: ConsoleWorld, kind: str, region: str | None = None) -> int:
    found = await console.sql(
        "SELECT coalesce(sum(amount_nano), 0)::bigint FROM ledger_entry e JOIN ledger_account a ON a.id = e.account_id "
        "WHERE a.kind = $1 AND ($2::text IS NULL OR a.region = $2)",
        kind,
        region,
    )
    return int(found[0][0])


async def test_each_line_is_what_was_used_and_what_the_ledger_says(
    console: ConsoleWorld, used: dict[tuple[str, str], Used]
) -> None:
    page = await console.read("/console/revenue")
    for region in REGIONS:
        of_region = [sums for (name, _), sums in used.items() if name == region]
        row = line(page, "regions-table-eur", region)
        assert number(row[1]) == sum(sums.requests for sums in of_region)
        assert number(row[2].split()[0]) == sum(sums.prompt_tokens for sums in of_region)
        assert number(row[3]) == sum(sums.completion_tokens for sums in of_region)
        assert nano(row[4]) == sum(sums.rated_nano for sums in of_region) == await booked(console, "revenue", region)
        assert nano(row[4]) - nano(row[5]) == nano(row[6].split()[0])
    for model in (CHAT, EMBEDDINGS):
        of_model = [sums for (_, name), sums in used.items() if name == model]
        row = line(page, "models-table-eur", model)
        assert number(row[1]) == sum(sums.requests for sums in of_model)
        assert nano(row[4]) == sum(sums.rated_nano for sums in of_model)


async def test_totals_are_the_ledgers(console: ConsoleWorld, used: dict[tuple[str, str], Used]) -> None:
    page = await console.read("/console/revenue")
    total = line(page, "regions-table-eur", "Total")
    assert total == line(page, "models-table-eur", "Total")
    assert number(total[1]) == sum(sums.requests for sums in used.values())
    written_off = -await booked(console, "write_off")
    assert written_off > 0
    assert nano(total[4]) == await booked(console, "revenue")
    assert nano(total[5]) == written_off
    assert page.by_id("stat-revenue-eur").text.startswith(f"Revenue today {total[6].split()[0]}")
    assert nano(page.by_id("stat-ledger-eur").all("p")[1].text) == nano(total[4])
    assert "The ledger agrees to the nano" in page.text and not page.has("disagreement-eur")
    assert {row[-1] for row in page.by_id("ledger-table-eur").rows()} == {"Yes"}


async def test_the_hours_sum_up_to_the_day(console: ConsoleWorld, used: dict[tuple[str, str], Used]) -> None:
    assert used
    page = await console.read("/console/revenue")
    hours = page.by_id("chart-hours-eur").one("tbody").all("tr")
    assert len(hours) == 24
    shown = [cell.text for row in hours for cell in row.all("td")[:1] if cell.text != "\N{EN DASH}"]
    total = line(page, "regions-table-eur", "Total")
    assert sum(nano(text) for text in shown) == nano(total[6].split()[0])
    now = int((await console.sql("SELECT extract(hour FROM now() AT TIME ZONE 'UTC')"))[0][0])
    assert len(shown) == now + 1


async def test_today_on_the_page_of_regions_is_the_same(
    console: ConsoleWorld, used: dict[tuple[str, str], Used]
) -> None:
    assert used
    total = line(await console.read("/console/revenue"), "regions-table-eur", "Total")
    page = await console.read("/console/regions")
    assert page.by_id("stat-requests").all("p")[1].text == total[1]
    assert page.by_id("stat-revenue").all("p")[1].text == total[6].split()[0]


async def test_tenants_spend_adds_up_to_the_months_revenue(
    console: ConsoleWorld, used: dict[tuple[str, str], Used]
) -> None:
    assert used
    page = await console.read("/console/tenants?sort=spend&order=desc")
    spend = [nano(row[4]) for row in page.by_id("tenants-table").rows()]
    assert spend == sorted(spend, reverse=True)
    assert sum(spend) == await booked(console, "revenue") + await booked(console, "write_off")


async def test_yesterday_is_another_day(console: ConsoleWorld, used: dict[tuple[str, str], Used]) -> None:
    """The same usage a day ago: today's sums stay, and yesterday's appear beside them."""
    assert used
    before = line(await console.read("/console/revenue"), "regions-table-eur", "fr-par")
    await console.sql(
        "INSERT INTO usage_hour SELECT tenant_id, hour - interval '1 day', project_id, key_id, listing_id, region, "
        "requests, prompt_tokens, cached_tokens, completion_tokens, amount_nano, written_off_nano FROM usage_hour"
    )
    try:
        after = line(await console.read("/console/revenue"), "regions-table-eur", "fr-par")
        assert after[:-1] == before[:-1]
        revenue = before[-1].split()[0]
        assert (before[-1], after[-1]) == (f"{revenue} €0.00 yesterday", f"{revenue} {revenue} yesterday")
    finally:
        await console.sql("DELETE FROM usage_hour WHERE hour < date_trunc('day', now(), 'UTC')")


@pytest.mark.parametrize(
    ("tamper", "restore"),
    [
        (
            "UPDATE usage_hour SET amount_nano = amount_nano + 1 WHERE region = 'fr-par' AND requests > 0",
            "UPDATE usage_hour SET amount_nano = amount_nano - 1 WHERE region = 'fr-par' AND requests > 0",
        ),
        (
            f"UPDATE ledger_entry SET amount_nano = amount_nano - 1 WHERE {_OF_WRITE_OFFS}",
            f"UPDATE ledger_entry SET amount_nano = amount_nano + 1 WHERE {_OF_WRITE_OFFS}",
        ),
    ],
)
async def test_a_difference_is_said_loudly(
    console: ConsoleWorld, used: dict[tuple[str, str], Used], tamper: str, restore: str
) -> None:
    assert used
    await _as_owner(console, tamper)
    try:
        page = await console.read("/console/revenue")
        assert "does not agree" in page.by_id("disagreement-eur").text
        assert "The ledger disagrees" in page.by_id("stat-ledger-eur").text
        assert [row[-1] for row in page.by_id("ledger-table-eur").rows()].count("No") == 1
    finally:
        await _as_owner(console, restore)
    assert not (await console.read("/console/revenue")).has("disagreement-eur")


async def _as_owner(console: ConsoleWorld, statement: str) -> None:
    """Around every trigger: one session, since the setting is the session's."""
    async with console.engine.connect() as connection:
        await connection.exec_driver_sql("SET session_replication_role = replica")
        await connection.exec_driver_sql(statement)
        await connection.exec_driver_sql("SET session_replication_role = origin")


async def test_past_hours_are_read_once_and_anew_after_a_while(console: ConsoleWorld) -> None:
    book = HourBook(console.clock)
    async with console.database.audit() as session:
        now = await read_now(session)
        since = now.replace(minute=0, second=0, microsecond=0) - _HOURS_BACK
        await book.used(session, since, now)
    await console.sql(
        "INSERT INTO usage_hour SELECT tenant_id, $1::timestamptz, uuidv7(), key_id, listing_id, region, 7, 0, 0, 0, "
        "0, 0 FROM usage_hour LIMIT 1",
        since,
    )
    async with console.database.audit() as session:
        assert not any(row.hour == since for row in await book.used(session, since, now))
        console.clock.advance(301)
        assert [row.sums.requests for row in await book.used(session, since, now) if row.hour == since] == [7]
    await console.sql("DELETE FROM usage_hour WHERE requests = 7 AND amount_nano = 0")


async def test_many_looks_at_once_all_see_the_same(console: ConsoleWorld, used: dict[tuple[str, str], Used]) -> None:
    assert used
    visitor = await console.operator()
    answers = await asyncio.gather(*(visitor.get("/console/revenue/live") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}


async def test_usage_appears_at_the_next_look(console: ConsoleWorld) -> None:
    await make_traffic(console, 2)
    before = line(await console.read("/console/revenue/live"), "regions-table-eur", "Total")
    tenant = await console.tenant("Late")
    rng = random.Random(3)  # noqa: S311 -- traffic, no secrets
    await console.cell("fr-par").spend(tenant, rng, 5)
    answer = await (await console.operator()).live("/console/revenue/live", "/console/revenue")
    after = line(read_page(answer.text), "regions-table-eur", "Total")
    assert number(after[1]) == number(before[1]) + 5
