"""Overview, log, requests' pages, public API and ledger say the same, to the nano, whatever happened."""

import random
from typing import Any

import pytest

from chappe_billing.audit.service import verify_ledger
from chappe_billing.ledger.postings import Account, AccountKind
from chappe_kernel.ids import REQUEST, encode_id
from chappe_kernel.rating import Counts, Outcome
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from tests.portal.reading import Element, nano, number
from tests.portal.world import TOO_MANY_TOKENS, Customer, PortalWorld, Use, random_uses, unlike

CUSTOMERS = 3
ROUNDS = 6


@pytest.fixture(scope="module")
async def customers(portal: PortalWorld) -> list[Customer]:
    """Three who used everything in every way; the last one also more than it had."""
    dice = random.Random(20261122)  # noqa: S311 -- the same traffic each time
    made = []
    for _ in range(CUSTOMERS):
        customer = await portal.sign_up(unlike())
        for name in ("app", "batch"):
            await customer.make_key(name)
        await customer.make_key("management", kind="management")
        made.append(customer)
    for _ in range(ROUNDS):
        for customer in made:
            uses = random_uses(dice, dice.randint(1, 9))
            await portal.use(customer, dice.choice(["app", "batch"]), dice.choice(["fr-par", "de-fra"]), *uses)
    poor = made[-1]
    too_much = Use("mistral-small-24b", counts=Counts(TOO_MANY_TOKENS, 0, 1))
    await portal.use(poor, "app", "fr-par", *[too_much] * 4)
    await portal.use(poor, "batch", "de-fra", *random_uses(dice, 5), Use(outcome=Outcome.FAILED))
    return made


async def test_everybody_who_adds_up_gets_the_same(portal: PortalWorld, customers: list[Customer]) -> None:
    for customer in customers:
        said = {
            "overview": sums_of_overview(await customer.read("/overview?period=month")),
            "offers": sums_of_offers(await customer.read("/overview?period=month")),
            "hours": sums_of_charts(await customer.read("/overview")),
            "log": await sums_of_log(customer),
            "events": await sums_of_events(portal, customer),
            "summary": await sums_of_summary(portal, customer),
            "ledger": await sums_of_ledger(portal, customer),
        }
        assert said["overview"]["requests"] > 0
        for figure in ("spend", "requests", "prompt", "cached", "output"):
            values = {who: sums[figure] for who, sums in said.items() if figure in sums}
            assert len(set(values.values())) == 1, (figure, values)


async def test_balance_is_the_funds_less_what_was_spent(portal: PortalWorld, customers: list[Customer]) -> None:
    for customer in customers:
        page = await customer.read("/overview?period=month")
        available = nano(page.by_id("available").text)
        assert available == portal.settings.welcome_credit_nano - sums_of_overview(page)["spend"]
        assert available == int((await customer.api(portal.http, "/balance"))["available"].replace(".", ""))
        account = Account(AccountKind.TENANT_FUNDS, "EUR", DEFAULT_LEGAL_ENTITY_ID, tenant_id=customer.id).id
        ((entered,),) = await portal.sql("SELECT sum(amount_nano) FROM ledger_entry WHERE account_id = $1", account)
        assert available == entered
    # Whoever wanted more than there was has nothing left but what gateways still hold.
    balance = (await customers[-1].read("/overview")).by_id("balance")
    assert nano(balance.by_id("available").text) == nano(balance.all("dd")[0].text)


async def test_the_ledger_is_intact(portal: PortalWorld, customers: list[Customer]) -> None:
    assert customers
    async with portal.database.audit() as session:
        assert await verify_ledger(session) is None


async def test_lines_of_every_request_add_up_to_its_charge(portal: PortalWorld, customers: list[Customer]) -> None:
    written_off = 0
    for customer in customers:
        for event in (await customer.api(portal.http, "/usage/events", limit=500))["items"]:
            page = await customer.read(f"/requests/{event['request_id']}")
            table = page.by_id("price-lines")
            (body,) = table.all("tbody")
            lines = sum(int(cell.attributes["data-nano"]) for cell in body.all("td") if "data-nano" in cell.attributes)
            foot = [int(cell.attributes["data-nano"]) for cell in table.one("tfoot").all("td")]
            lost = -foot[1] if len(foot) > 1 else 0
            written_off += lost
            charged = int(page.by_id("charged").attributes["data-nano"])
            assert charged == nano(page.by_id("charged").text) == lines - lost
            assert charged == int(event["amount"].replace(".", ""))
            if charged:
                assert f"-{page.by_id('charged').text}" in page.by_id("ledger").text
    assert written_off > 0


async def test_transactions_take_from_the_balance_what_their_requests_cost(
    portal: PortalWorld, customers: list[Customer]
) -> None:
    """The effect shown on requests' pages, each transaction once, is all that was ever spent."""
    for customer in customers:
        rows = await portal.sql(
            "SELECT DISTINCT ON (transaction_id) request_id FROM usage_event "
            "WHERE tenant_id = $1 AND transaction_id IS NOT NULL",
            customer.id,
        )
        effects = []
        for (request_id,) in rows:
            page = await customer.read(f"/requests/{encode_id(REQUEST, request_id)}")
            effects.append(nano(page.by_id("ledger").all("dd")[2].text))
        spent = sums_of_overview(await customer.read("/overview"))["spend"]
        assert sum(effects) == -spent


def sums_of_overview(page: Element) -> dict[str, int]:
    """Of this month."""
    spend, *counts = [row[2] for row in page.by_id("usage-table").rows()]
    return {"spend": nano(spend)} | dict(
        zip(("requests", "prompt", "cached", "output"), map(number, counts), strict=True)
    )


def sums_of_offers(page: Element) -> dict[str, int]:
    rows = page.by_id("offers-table").rows()
    names = ("requests", "prompt", "cached", "output")
    counts = {name: sum(number(row[place]) for row in rows) for place, name in enumerate(names, start=2)}
    return {"spend": sum(nano(row[1]) for row in rows)} | counts


def sums_of_charts(page: Element) -> dict[str, int]:
    """The last 24 hours are all that these customers ever lived."""
    spends = page.by_id("spend-chart").rows()
    requests = page.by_id("requests-chart").rows()
    assert len(spends) == len(requests) == 24
    return {"spend": sum(nano(row[1]) for row in spends), "requests": sum(number(row[1]) for row in requests)}


async def sums_of_log(customer: Customer) -> dict[str, int]:
    rows = [row for page in await crawl(customer, "/requests?limit=25") for row in page.by_id("log-table").rows()]
    return {
        "spend": sum(nano(row[2]) for row in rows),
        "requests": len(rows),
        "prompt": sum(number(row[4].split(" ")[0]) for row in rows),
        "cached": sum(number(row[4].split(" ")[1]) for row in rows if "cached" in row[4]),
        "output": sum(number(row[5]) for row in rows),
    }


async def sums_of_events(portal: PortalWorld, customer: Customer) -> dict[str, int]:
    items = (await customer.api(portal.http, "/usage/events", limit=500))["items"]
    return _sums_of_items(items) | {"requests": len(items)}


async def sums_of_summary(portal: PortalWorld, customer: Customer) -> dict[str, int]:
    items = (await customer.api(portal.http, "/usage/summary"))["items"]
    return _sums_of_items(items) | {"requests": sum(item["requests"] for item in items)}


async def sums_of_ledger(portal: PortalWorld, customer: Customer) -> dict[str, int]:
    statement = (
        "SELECT -sum(e.amount_nano) FROM ledger_entry e JOIN ledger_transaction t ON t.id = e.transaction_id "
        "WHERE e.tenant_id = $1 AND t.kind = 'usage'"
    )
    ((spent,),) = await portal.sql(statement, customer.id)
    return {"spend": int(spent)}


async def crawl(customer: Customer, path: str | None) -> list[Element]:
    """The page and all that its links to the next page lead to."""
    pages = []
    while path is not None:
        pages.append(await customer.read(path))
        path = next_page(pages[-1])
    return pages


def next_page(page: Element) -> str | None:
    links = [link.attributes["href"] for link in page.all("a") if link.text == "Next page"]
    return links[0] if links else None


def _sums_of_items(items: list[dict[str, Any]]) -> dict[str, int]:
    return {
        "spend": sum(int(item["amount"].replace(".", "")) for item in items),
        "prompt": sum(item["prompt_tokens"] for item in items),
        "cached": sum(item["cached_tokens"] for item in items),
        "output": sum(item["completion_tokens"] for item in items),
    }
