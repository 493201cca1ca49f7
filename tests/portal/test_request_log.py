"""The log is complete and stable, narrows as it says, ends a search honestly, and explains every request."""

from datetime import timedelta
from urllib.parse import quote
from uuid import UUID

import pytest

from chappe_billing.request_log import queries
from chappe_kernel.ids import KEY, REQUEST, encode_id, new_id
from chappe_kernel.rating import NO_COUNTS, Counts, Outcome
from tests.portal.reading import Element, nano
from tests.portal.test_figures_agree import crawl, next_page
from tests.portal.world import BIG_CHAT, CHAT, EMBEDDINGS, Customer, PortalWorld, Use, unlike


async def test_pages_hold_every_request_once_while_new_ones_arrive(portal: PortalWorld, customer: Customer) -> None:
    first = await portal.use(customer, "app", "fr-par", *[Use()] * 60)
    seen: list[str] = []
    path: str | None = "/requests?limit=25"
    while path is not None:
        page = await customer.read(path)
        seen += ids_of(page)
        path = next_page(page)
        await portal.use(customer, "app", "de-fra", Use())
    assert seen == [encode_id(REQUEST, event.request_id) for event in reversed(first)]


async def test_oldest_first_is_the_same_log_backwards(portal: PortalWorld, customer: Customer) -> None:
    await portal.use(customer, "app", "fr-par", *[Use()] * 30)
    there = [one for page in await crawl(customer, "/requests?limit=25") for one in ids_of(page)]
    back = [one for page in await crawl(customer, "/requests?limit=25&sort=time&order=asc") for one in ids_of(page)]
    assert back == there[::-1]


@pytest.fixture
async def varied(portal: PortalWorld, customer: Customer) -> Customer:
    """One request of every kind, by two keys."""
    await customer.make_key("batch")
    for region in ("fr-par", "de-fra"):
        for key in ("app", "batch"):
            uses = [Use(model, outcome) for model in (CHAT, BIG_CHAT) for outcome in Outcome]
            await portal.use(customer, key, region, *uses)
    return customer


async def test_filters_narrow_alone_and_together(portal: PortalWorld, varied: Customer) -> None:
    rows = await portal.sql("SELECT name, id FROM api_key WHERE tenant_id = $1", varied.id)
    key_ids = {name: encode_id(KEY, key_id) for name, key_id in rows}
    assert len((await varied.read("/requests")).by_id("log-table").rows()) == 24
    for filters, count in [
        ({"model": BIG_CHAT}, 12),
        ({"region": "de-fra"}, 12),
        ({"key": key_ids["app"]}, 12),
        ({"outcome": "completed"}, 8),
        ({"outcome": "failed"}, 8),
        ({"outcome": "failed", "key": key_ids["batch"]}, 4),
        ({"outcome": "failed", "key": key_ids["batch"], "region": "fr-par"}, 2),
        ({"outcome": "disconnected", "key": key_ids["batch"], "region": "fr-par", "model": CHAT}, 1),
        ({"outcome": "completed", "key": key_ids["batch"], "region": "fr-par", "model": CHAT}, 1),
        ({"model": "", "region": "", "key": "", "outcome": ""}, 24),
    ]:
        page = await varied.read("/requests?" + "&".join(f"{name}={value}" for name, value in filters.items()))
        shown = page.by_id("log-table").rows()
        assert len(shown) == count, filters
        wanted = {filters.get("model"), filters.get("region")} - {None, ""}
        assert all(wanted <= set(row[1].split(" ")) for row in shown), filters
        if filters.get("outcome"):
            assert {row[3].lower() for row in shown} == {filters["outcome"]}
    page = await varied.read(f"/requests?model={EMBEDDINGS}")
    assert "No such requests here" in page.text


async def test_filters_stay_over_pages(portal: PortalWorld, customer: Customer) -> None:
    await portal.use(customer, "app", "fr-par", *[Use(outcome=Outcome.FAILED), Use()] * 30)
    pages = await crawl(customer, "/requests?outcome=failed&limit=25")
    assert [len(ids_of(page)) for page in pages] == [25, 5]
    for page in pages:
        chosen = [
            one.attributes["value"] for one in page.by_id("outcome").all("option") if "selected" in one.attributes
        ]
        assert chosen == ["failed"]


async def test_search_that_gives_up_says_so_and_goes_on(
    portal: PortalWorld, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = await portal.use(customer, "app", "fr-par", Use(BIG_CHAT))
    await portal.use(customer, "app", "fr-par", *[Use()] * 25)
    monkeypatch.setattr(queries, "SEARCHED", 10)
    pages = await crawl(customer, f"/requests?model={BIG_CHAT}")
    assert [ids_of(page) for page in pages] == [[], [], [encode_id(REQUEST, wanted[0].request_id)]]
    assert ["stopped early" in page.text for page in pages] == [True, True, False]
    alone = await crawl(customer, "/requests?outcome=failed")
    assert ["stopped early" in page.text for page in alone] == [False]


@pytest.mark.parametrize("query", ["", "model=x", "outcome=failed"])
async def test_log_without_requests_says_what_to_do(portal: PortalWorld, query: str) -> None:
    customer = await portal.sign_up(unlike())
    page = await customer.read("/requests" + (f"?{query}" if query else ""), 400 if query == "model=x" else 200)
    assert not page.has("log-table")
    assert page.by_id("log").all("a")


BAD = [
    "cursor=x",
    "cursor=AQGfrHkAAHAAgAAAAAAAAAA%3D",
    "cursor=" + "A" * 500,
    "cursor=%00",
    "cursor=%C3%A9%FF",
    "limit=0",
    "limit=51",
    "limit=-1",
    "limit=many",
    "sort=cost",
    "sort=time&order=up",
    "sort=request_id;DROP",
    "model=nothing",
    "model=%00",
    "model=" + "m" * 5000,
    "region=us-east",
    "region=%27%20OR%201=1",
    "outcome=COMPLETED",
    "outcome=lost",
    "key=key_x",
    "key=app",
    f"key={encode_id(KEY, UUID(int=5))}",
]


@pytest.mark.parametrize("query", BAD)
async def test_address_that_cannot_be_meant_gets_a_clean_page(portal: PortalWorld, query: str) -> None:
    customer = await portal.sign_up(unlike())
    page = await customer.read(f"/requests?{query}", 400)
    assert len(page.all("h1")) == 1
    assert page.all("div", role="alert")
    assert not page.has("log-table")


async def test_what_is_no_parameter_of_the_log_is_ignored(customer: Customer) -> None:
    await customer.read("/requests?utm_source=mail&model=&cursor=")


async def test_anothers_key_is_no_filter(portal: PortalWorld, customer: Customer) -> None:
    other = await portal.sign_up(unlike())
    ((key_id,),) = await portal.sql("SELECT id FROM api_key WHERE tenant_id = $1", customer.id)
    await other.read(f"/requests?key={encode_id(KEY, key_id)}", 400)


async def test_anothers_request_is_not_found(portal: PortalWorld, customer: Customer) -> None:
    (event,) = await portal.use(customer, "app", "fr-par", Use())
    path = f"/requests/{encode_id(REQUEST, event.request_id)}"
    await customer.read(path)
    other = await portal.sign_up(unlike())
    theirs = await other.visitor.get(path)
    nobodys = await other.visitor.get(f"/requests/{encode_id(REQUEST, new_id())}")
    assert (theirs.status_code, nobodys.status_code) == (404, 404)
    assert event.request_id.hex not in theirs.text


@pytest.mark.parametrize("request_id", ["req_", "x", "req_" + "0" * 27, "key_" + "0" * 26, "req_" + "é" * 26, "%00"])
async def test_what_is_no_request_id_is_not_found(customer: Customer, request_id: str) -> None:
    page = await customer.read(f"/requests/{quote(request_id, safe='%')}", 404)
    assert len(page.all("h1")) == 1


@pytest.mark.parametrize(
    ("use", "words", "charged"),
    [
        (Use(counts=Counts(100, 40, 10)), "you got all of it", 100 + 60 * 60 + 40 * 15 + 10 * 240),
        (Use(outcome=Outcome.DISCONNECTED, counts=Counts(10, 0, 3)), "before the answer ended", 1420),
        (Use(outcome=Outcome.DISCONNECTED, counts=NO_COUNTS, ttft_ms=None), "before the model began", 0),
        (Use(outcome=Outcome.FAILED, counts=Counts(10, 0, 0), ttft_ms=None), "before the first token", 0),
        (Use(outcome=Outcome.FAILED, counts=Counts(10, 0, 2)), "after the answer had begun", 1180),
        (Use(EMBEDDINGS, counts=Counts(10, 0, 0), ttft_ms=None), "you got all of it", 200),
    ],
)
async def test_page_of_a_request_explains_outcome_and_price(
    portal: PortalWorld, customer: Customer, use: Use, words: str, charged: int
) -> None:
    (event,) = await portal.use(customer, "app", "fr-par", use)
    assert event.amount_nano == charged
    page = await customer.read(f"/requests/{encode_id(REQUEST, event.request_id)}")
    assert words in page.by_id("outcome").text
    assert nano(page.by_id("charged").text) == charged
    assert ("Waived" in page.by_id("price").text) == (charged == 0)
    assert ("nothing in the ledger" in page.by_id("ledger").text) == (charged == 0)
    for fact in ("fr-par", "FR", "fr-par-gateway-0", use.model):
        assert fact in page.by_id("place").text
    assert "app" in page.by_id("caller").text


async def test_clock_that_was_set_back_makes_no_negative_times(portal: PortalWorld, customer: Customer) -> None:
    (event,) = await portal.use(customer, "app", "fr-par", Use(took=timedelta(seconds=-5), ttft_ms=80))
    page = await customer.read(f"/requests/{encode_id(REQUEST, event.request_id)}")
    assert "after 80 ms" in page.by_id("timing").text
    assert "-" not in page.by_id("timing").text.replace(" - ", "")
    widths = [float(bar.attributes["width"]) for bar in page.by_id("timing").all("rect")]
    assert all(0 <= width <= 1000 for width in widths)


async def test_superseded_price_is_still_the_one_of_the_request(portal: PortalWorld, customer: Customer) -> None:
    (event,) = await portal.use(customer, "app", "de-fra", Use(BIG_CHAT))
    path = f"/requests/{encode_id(REQUEST, event.request_id)}"
    before = (await customer.read(path)).by_id("price").text
    assert "in force since" in before
    await portal.sql(
        "INSERT INTO price_version SELECT uuidv7(), listing_id, region, currency, now() + interval '1 year', "
        "1, 1, 1, 1 FROM price_version WHERE id = $1",
        event.price_version,
    )
    after = (await customer.read(path)).by_id("price").text
    assert "until" in after
    assert nano((await customer.read(path)).by_id("charged").text) == event.amount_nano


def ids_of(page: Element) -> list[str]:
    if not page.has("log-table"):
        return []
    return [link.attributes["href"].rpartition("/")[2] for link in page.by_id("log-table").one("tbody").all("a")]
