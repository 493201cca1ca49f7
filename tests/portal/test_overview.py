"""The overview helps who is new, is live, and shows nobody else's figures."""

import pytest

from chappe_kernel.rating import Counts, Outcome
from tests.portal.reading import Element, nano, number, read_page
from tests.portal.world import CHAT, EMBEDDINGS, Customer, PortalWorld, Use, unlike

NONE = "\N{EN DASH}"


async def test_newcomer_is_led_from_a_key_to_the_first_figures(portal: PortalWorld) -> None:
    customer = await portal.sign_up(unlike())
    assert await steps_done(customer) == [False, False, False]
    await customer.make_key("app")
    assert await steps_done(customer) == [True, False, False]
    await portal.use(customer, "app", "fr-par", Use())
    assert not (await customer.read("/overview")).has("first-steps")


async def test_playground_counts_as_a_step_once_a_call_was_settled(portal: PortalWorld) -> None:
    customer = await portal.sign_up(unlike())
    await customer.make_key("app")
    await portal.sql("UPDATE api_key SET purpose = 'playground' WHERE tenant_id = $1", customer.id)
    assert await steps_done(customer) == [False, False, False]
    await portal.use(customer, "app", "fr-par", Use())
    assert await steps_done(customer) == [False, True, True]


async def test_fragment_says_what_the_page_says_and_moves_with_new_usage(
    portal: PortalWorld, customer: Customer
) -> None:
    before = await live(customer)
    (event,) = await portal.use(customer, "app", "de-fra", Use(counts=Counts(100, 25, 7)))
    page, after = await customer.read("/overview"), await live(customer)
    assert before.by_id("usage-table").rows() != after.by_id("usage-table").rows()
    for table in ("usage-table", "offers-table", "latest-table", "spend-chart", "requests-chart"):
        assert page.by_id(table).rows() == after.by_id(table).rows()
    assert not after.all("html")
    today = {row[0]: row[1] for row in after.by_id("usage-table").rows()}
    assert nano(today.pop("Spend")) == event.amount_nano
    assert {name: number(value) for name, value in today.items()} == {
        "Requests": 1,
        "Input tokens": 100,
        "Of which cached": 25,
        "Output tokens": 7,
    }


async def test_page_asks_for_its_fragment_within_five_seconds(customer: Customer) -> None:
    (region,) = (one for one in (await customer.read("/overview?period=month")).walk() if "data-live" in one.attributes)
    assert region.attributes["data-live"] == "/overview/live?period=month"
    assert float(region.attributes["data-live-every"]) <= 5


async def test_first_tokens_are_timed_by_model_and_region(portal: PortalWorld, customer: Customer) -> None:
    for region, times in (("fr-par", range(1, 101)), ("de-fra", [900])):
        await portal.use(customer, "app", region, *(Use(ttft_ms=time) for time in times))
    await portal.use(customer, "app", "fr-par", Use(EMBEDDINGS, counts=Counts(5, 0, 0), ttft_ms=None))
    page = await customer.read("/overview")
    assert {row[0]: row[6:] for row in page.by_id("offers-table").rows()} == {
        f"{CHAT} fr-par": ["50 ms", "95 ms"],
        f"{CHAT} de-fra": ["900 ms", "900 ms"],
        f"{EMBEDDINGS} fr-par": [NONE, NONE],
    }
    assert "over your last 101 requests" in page.by_id("offers").text


async def test_newest_five_lead_to_their_pages(portal: PortalWorld, customer: Customer) -> None:
    await portal.use(customer, "app", "fr-par", *[Use()] * 7)
    table = (await customer.read("/overview")).by_id("latest-table")
    links = [link.attributes["href"] for link in table.all("a")]
    assert len(links) == 5
    for link in links:
        await customer.read(link)


async def test_used_up_balance_is_said_in_words(portal: PortalWorld, customer: Customer) -> None:
    assert "used up" not in (await customer.read("/overview")).text
    await portal.sql("ALTER TABLE budget DISABLE TRIGGER budget_increase")
    await portal.sql("UPDATE budget SET posted_nano = funds_nano WHERE tenant_id = $1", customer.id)
    await portal.sql("ALTER TABLE budget ENABLE TRIGGER budget_increase")
    assert "Your balance is used up" in (await customer.read("/overview")).text
    await portal.sql("UPDATE budget SET posted_nano = 0 WHERE tenant_id = $1", customer.id)


async def test_nobody_sees_anothers_figures(portal: PortalWorld, customer: Customer) -> None:
    await portal.use(customer, "app", "fr-par", Use(outcome=Outcome.DISCONNECTED))
    other = await portal.sign_up(unlike())
    page = await other.read("/overview?period=month")
    assert {row[2] for row in page.by_id("usage-table").rows()} == {"€0.00", "0"}
    assert not page.has("latest-table")
    assert not page.has("offers-table")


@pytest.mark.parametrize("path", ["/overview", "/overview/live", "/requests", "/keys", "/requests/req_x"])
async def test_signed_out_visitor_is_sent_to_sign_in(portal: PortalWorld, path: str) -> None:
    visitor = (await portal.sign_up(unlike())).visitor
    visitor.cookies.clear()
    answer = await visitor.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?next=")


async def test_root_leads_to_the_overview(customer: Customer) -> None:
    answer = await customer.visitor.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/overview")


async def live(customer: Customer) -> Element:
    answer = await customer.visitor.live("/overview/live", "/overview")
    assert answer.status_code == 200
    return read_page(answer.text)


async def steps_done(customer: Customer) -> list[bool]:
    steps = (await customer.read("/overview")).by_id("first-steps").all("li")
    return [step.one("span", **{"class": "visually-hidden"}).text == "done" for step in steps]
