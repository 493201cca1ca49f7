"""From a draft to a published price and back, on the console's pages: forms as a browser sends them."""

import random
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import httpx
import msgspec
import pytest

from chappe_billing.price_corrections.service import correct_all
from chappe_billing.prices.queries import all_prices
from chappe_billing.prices.service import publish_price
from chappe_kernel.ids import PRICE_VERSION, encode_id, new_id
from chappe_kernel.rating import Price
from chappe_tenants.operators.service import OperatorRole
from tests.console.world import CHAT, EMBEDDINGS, ConsoleWorld, show
from tests.portal.reading import Element, read_page

FINANCE = OperatorRole.FINANCE
PRICES = {"input": "0.07", "cached_input": "0.015", "output": "0,21"}
ONCE = re.compile(r'name="once" value="([0-9a-f]+)"')


async def post(console: ConsoleWorld, path: str, **fields: str) -> httpx.Response:
    return await (await console.operator(FINANCE)).post(path, **fields)


async def new_draft(console: ConsoleWorld, tenant: str = "") -> str:
    """Its page's path."""
    answer = await post(console, "/console/prices/drafts/new", title="Spring", tenant=tenant)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def put(console: ConsoleWorld, draft: str, model: str = CHAT, region: str = "de-fra", **fields: str) -> Element:
    """Adds or changes a line; the page that follows."""
    answer = await post(console, f"{draft}/lines", model=model, region=region, **(fields or PRICES))
    assert answer.status_code == 303, answer.text
    return await console.read(draft, FINANCE)


async def publish(console: ConsoleWorld, draft: str, starts_at: str = "") -> httpx.Response:
    page = await console.read(draft, FINANCE)
    (lines,) = (field for field in page.by_id("publish-form").all("input") if field.attributes["name"] == "lines")
    return await post(console, f"{draft}/publish", starts_at=starts_at, lines=lines.attributes["value"])


def links(page: Element, table: str) -> list[str]:
    return [link.attributes["href"] for link in page.by_id(table).all("a")]


async def test_a_draft_is_compared_simulated_published_and_withdrawn(console: ConsoleWorld) -> None:
    draft = await new_draft(console)
    page = await put(console, draft)
    assert [row[:5] for row in page.by_id("differences-table").rows()] == [
        [f"{CHAT} de-fra", "1M input tokens", "€0.06", "€0.07", "+16.7%"]
    ]
    assert "publish-form" not in {form.attributes.get("id") for form in page.all("form")}
    simulated = await post(console, f"{draft}/simulate", month="")
    assert simulated.status_code == 303
    in_a_year = (datetime.now(UTC) + timedelta(days=365)).strftime("%Y-%m-%dT%H:%M")
    assert (await publish(console, draft, in_a_year)).status_code == 303
    page = await console.read(draft, FINANCE)
    (row,) = page.by_id("published-table").rows()
    assert row[1:4] == ["Scheduled", "€0.07", "€0.015"]
    (version,) = links(page, "published-table")
    assert "Say why" in (await post(console, f"{version}/withdraw", reason=" ")).text
    for _ in range(2):
        answer = await post(console, f"{version}/withdraw", reason="too early")
        assert (answer.status_code, answer.headers["location"]) == (303, version)
    page = await console.read(version, FINANCE)
    assert "too early" in page.text and "finance@operator.example" in page.by_id("withdrawn").text
    history = await console.read(f"/console/prices/history?model={CHAT}&region=de-fra", FINANCE)
    assert "too early" in history.by_id("history-table").rows()[0][-1]


async def test_a_wrong_price_is_reverted_once_and_says_what_it_gave_back(console: ConsoleWorld) -> None:
    draft = await new_draft(console)
    await put(console, draft, region="it-mil")
    await post(console, f"{draft}/simulate", month="")
    await publish(console, draft)
    (first,) = links(await console.read(draft, FINANCE), "published-table")
    refused = await post(console, f"{first}/revert", reason="a digit too many")
    assert refused.status_code == 409 and "Nothing was in force before it" in refused.text
    wrong = f"/console/prices/versions/{encode_id(PRICE_VERSION, await too_dear(console, 'it-mil'))}"
    for _ in range(2):
        assert (await post(console, f"{wrong}/revert", reason="a digit too many")).status_code == 303
    page = await console.read(wrong, FINANCE)
    assert "This price was wrong" in page.text and "Nothing was due" in page.text
    history = await console.read(f"/console/prices/history?model={CHAT}&region=it-mil", FINANCE)
    rows = history.by_id("history-table").rows()
    assert [row[1] for row in rows] == ["In force", "Ended", "Ended"]
    assert "Reverts: a digit too many" in rows[0][-1]


async def test_what_was_given_back_stands_with_the_wrong_price(console: ConsoleWorld) -> None:
    tenant = await console.tenant(f"Overcharged {new_id()}", allowed_regions=("de-fra",))
    wrong = await too_dear(console, "de-fra")
    used = await console.cell("de-fra").spend(tenant, random.Random(5), 20)  # noqa: S311 -- traffic, no secrets
    path = f"/console/prices/versions/{encode_id(PRICE_VERSION, wrong)}"
    assert (await post(console, f"{path}/revert", reason="a digit too many")).status_code == 303
    await correct_all(console.database)
    page = await console.read(path, FINANCE)
    (row,) = page.by_id("corrections-table").rows()
    paid, right, given = (Decimal(cell.removeprefix("€")) for cell in row[1:4])
    assert paid == Decimal(used[CHAT].rated_nano).scaleb(-9) and paid == 10 * right and given == paid - right
    assert f"{row[3]} was given back to 1 tenant" in page.text


async def too_dear(console: ConsoleWorld, region: str) -> UUID:
    """In force there from now on: ten times what it was."""
    async with console.database.operator() as session:
        found = await all_prices(session)
        ((listing_id, versions),) = (
            (listing_id, versions) for (listing_id, place), versions in found.items() if place == region
        )
        price = Price(*(10 * nano for nano in msgspec.structs.astuple(versions[-1].price)))
        return await publish_price(
            session, listing_id=listing_id, region=region, currency="EUR", price=price, notice=timedelta(0)
        )


async def test_what_was_typed_comes_back_with_its_errors(console: ConsoleWorld) -> None:
    draft = await new_draft(console)
    answer = await post(
        console, f"{draft}/lines", model=CHAT, region="de-fra", input="0.0001", output="x", per_request="9999"
    )
    page = read_page(answer.text)
    assert answer.status_code == 400
    assert "three decimals" in page.by_id("input-error").text
    assert "three decimals" in page.by_id("cached_input-error").text
    assert "three decimals" in page.by_id("output-error").text
    assert "over a thousand" in page.by_id("per_request-error").text
    assert page.by_id("input").attributes["value"] == "0.0001"
    await put(console, draft)
    await post(console, f"{draft}/simulate", month="")
    soon = await publish(console, draft, "2026-01-01T00:00")
    assert soon.status_code == 400 and "Too soon" in read_page(soon.text).by_id("starts_at-error").text
    odd = await publish(console, draft, "tomorrow")
    assert odd.status_code == 400 and "Enter a day and a time" in read_page(odd.text).by_id("starts_at-error").text


async def test_only_what_was_seen_is_published(console: ConsoleWorld) -> None:
    draft = await new_draft(console)
    await put(console, draft)
    await post(console, f"{draft}/simulate", month="")
    page = await console.read(draft, FINANCE)
    (lines,) = (field for field in page.by_id("publish-form").all("input") if field.attributes["name"] == "lines")
    await put(console, draft, input="6", cached_input="1", output="1")
    await post(console, f"{draft}/simulate", month="")
    answer = await post(console, f"{draft}/publish", starts_at="", lines=lines.attributes["value"])
    assert answer.status_code == 409 and "Somebody changed it meanwhile" in answer.text


async def test_a_form_sent_twice_makes_one_draft_and_publishes_once(console: ConsoleWorld) -> None:
    visitor = await console.operator(FINANCE)
    found = ONCE.search((await visitor.get("/console/prices/drafts/new")).text)
    assert found is not None
    made = [
        await visitor.post("/console/prices/drafts/new", title="Twice", tenant="", once=found.group(1))
        for _ in range(2)
    ]
    assert made[0].headers["location"] == made[1].headers["location"]
    draft = made[0].headers["location"]
    await put(console, draft, model=EMBEDDINGS, region="de-fra")
    await post(console, f"{draft}/simulate", month="")
    page = await console.read(draft, FINANCE)
    (lines,) = (field for field in page.by_id("publish-form").all("input") if field.attributes["name"] == "lines")
    for _ in range(2):
        answer = await post(console, f"{draft}/publish", starts_at="", lines=lines.attributes["value"])
        assert answer.status_code == 303
    assert len((await console.read(draft, FINANCE)).by_id("published-table").rows()) == 1
    late = await post(console, f"{draft}/lines", model=CHAT, region="fr-par", **PRICES)
    assert late.status_code == 409 and "published or discarded" in late.text


async def test_a_tenants_draft_takes_a_discount_or_a_price_and_shows_on_its_page(console: ConsoleWorld) -> None:
    tenant = await console.tenant(f"Discounted {new_id()}")
    draft = await new_draft(console, show(tenant))
    both = await post(console, f"{draft}/lines", model=CHAT, region="fr-par", discount="10", **PRICES)
    assert "either a discount or prices" in read_page(both.text).by_id("discount-error").text
    nothing = await post(console, f"{draft}/lines", model=EMBEDDINGS, region="it-mil", discount="10")
    assert "no list price" in read_page(nothing.text).by_id("discount-error").text
    page = await put(console, draft, region="fr-par", discount="12.5")
    assert "12.5% off the list price" in page.by_id("differences-table").text
    form = await console.read(f"{draft}?model={CHAT}&region=fr-par", FINANCE)
    assert form.by_id("discount").attributes["value"] == "12.5"
    await post(console, f"{draft}/simulate", month="")
    assert (await publish(console, draft)).status_code == 303
    own = (await console.read(f"/console/tenants/{show(tenant)}/prices", FINANCE)).by_id("own-prices-table").rows()
    assert [row[:3] for row in own] == [[f"{CHAT} fr-par", "Scheduled 12.5% off the list price", "€0.053"]]
    assert f"/console/tenants/{show(tenant)}/prices" in links(await console.read("/console/prices"), "own-prices-table")


async def test_a_line_is_removed_and_a_draft_discarded(console: ConsoleWorld) -> None:
    draft = await new_draft(console)
    await put(console, draft)
    removed = await post(console, f"{draft}/lines/remove", model=CHAT, region="de-fra")
    assert removed.status_code == 303
    assert "It says nothing yet" in (await console.read(draft, FINANCE)).text
    for _ in range(2):
        assert (await post(console, f"{draft}/discard")).status_code == 303
    page = await console.read(draft, FINANCE)
    assert "Discarded" in page.text and not page.one("main").all("form")


async def test_the_simulation_shows_what_changes_for_whom(console: ConsoleWorld) -> None:
    tenant = await console.tenant(f"Simulated {new_id()}")
    await console.cell("fr-par").spend(tenant, random.Random(4), 30)  # noqa: S311 -- traffic, no secrets
    draft = await new_draft(console)
    await put(console, draft, region="fr-par", input="0.12", cached_input="0.03", output="0.42")
    month = datetime.now(UTC).strftime("%Y-%m")
    answer = await post(console, f"{draft}/simulate", month=month)
    assert answer.headers["location"] == f"{draft}?month={month}"
    page = await console.read(f"{draft}?month={month}", FINANCE)
    (place,) = page.by_id("places-table").rows()
    charged, would, difference = place[2:5]
    assert place[0] == f"{CHAT} fr-par" and difference == "+" + charged and float(would[1:]) == 2 * float(charged[1:])
    assert any(row[0].startswith("Simulated") for row in page.by_id("tenants-table").rows())


@pytest.mark.parametrize("role", [OperatorRole.SUPPORT, OperatorRole.AUDITOR])
async def test_who_may_only_see_prices_has_no_forms(console: ConsoleWorld, role: OperatorRole) -> None:
    draft = await new_draft(console)
    await put(console, draft)
    (version, *_) = links(await console.read("/console/prices"), f"prices-{CHAT}")
    for path in (draft, version, "/console/prices/drafts"):
        assert not (await console.read(path, role)).one("main").all("form"), path
