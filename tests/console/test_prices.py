"""The price book shows what is in force, what is scheduled and what was, exactly."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from chappe_billing.prices.service import publish_discount
from chappe_catalogue.listings.queries import find_listing
from chappe_control.console.prices.book import arrange
from chappe_control.console.prices.queries import BookedPrice
from chappe_kernel.ids import PRICE_VERSION, encode_id, new_id
from chappe_kernel.rating import Price
from tests.console.world import CHAT, EMBEDDINGS, ConsoleWorld

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LISTING = new_id()


def version(days: float, region: str = "fr-par") -> BookedPrice:
    starts_at = NOW + timedelta(days=days)
    return BookedPrice(new_id(), LISTING, region, "EUR", starts_at, starts_at, Price(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("days", "current", "scheduled", "past"),
    [
        ((-1,), 0, [], []),
        ((0,), 0, [], []),
        ((1,), None, [0], []),
        ((-9, -5, -1, 2, 3), 2, [3, 4], [1, 0]),
    ],
)
def test_versions_follow_each_other(
    days: tuple[float, ...], current: int | None, scheduled: list[int], past: list[int]
) -> None:
    versions = [version(day) for day in days]
    (found,) = arrange(versions, NOW, {LISTING: ["fr-par"]})[LISTING]
    assert (found.current.booked if found.current else None) == (None if current is None else versions[current])
    assert [one.booked for one in found.scheduled] == [versions[index] for index in scheduled]
    assert [one.booked for one in found.past] == [versions[index] for index in past]
    ends = [
        one.ends_at for one in (*reversed(found.past), *([found.current] if found.current else []), *found.scheduled)
    ]
    assert ends == [*(one.starts_at for one in versions[1:]), None]


def test_regions_and_listings_do_not_mix_and_an_offer_that_ended_is_marked() -> None:
    book = arrange([version(-2), version(-1, "de-fra")], NOW, {LISTING: ["de-fra"]})
    assert [(found.region, found.on_sale) for found in book[LISTING]] == [("fr-par", False), ("de-fra", True)]


async def test_the_page_shows_millions_and_nanos(console: ConsoleWorld) -> None:
    page = await console.read("/console/prices")
    (row,) = (row for row in page.by_id(f"prices-{CHAT}").rows() if row[0].startswith("fr-par"))
    assert "In force" in row[0]
    assert row[1:5] == ["€0.06 60 nano", "€0.015 15 nano", "€0.21 210 nano", "€0.00"]
    (row,) = page.by_id(f"prices-{EMBEDDINGS}").rows()
    assert row[4] == "€0.0000001"


async def test_a_published_change_is_scheduled_and_then_history(console: ConsoleWorld) -> None:
    old: UUID = (
        await console.sql(
            "SELECT p.id FROM price_version p JOIN listing l ON l.id = listing_id "
            "WHERE l.name = $1 AND p.region = 'de-fra'",
            CHAT,
        )
    )[0][0]
    await console.sql(
        "INSERT INTO price_version SELECT uuidv7(), listing_id, region, currency, now() + interval '1 hour', 70, 15, "
        "210, 0, now() FROM price_version WHERE id = $1",
        old,
    )
    rows = (await console.read("/console/prices")).by_id(f"prices-{CHAT}").rows()
    states = [row[0].rsplit(" prc_", 1)[0] for row in rows]
    assert states == ["de-fra In force", "de-fra Scheduled", "fr-par In force"]
    await console.sql(
        "INSERT INTO price_version SELECT uuidv7(), listing_id, region, currency, now(), 65, 15, "
        "210, 0, now() FROM price_version WHERE id = $1",
        old,
    )
    page = await console.read("/console/prices")
    (history,) = page.by_id(f"history-{CHAT}").rows()
    assert history[0] == f"de-fra Ended {encode_id(PRICE_VERSION, old)}"
    assert "History: 1 earlier version" in page.text


async def test_what_batches_pay_stands_beside_it(console: ConsoleWorld) -> None:
    async with console.database.operator() as session:
        listing = await find_listing(session, CHAT)
        assert listing is not None
        await publish_discount(
            session,
            listing_id=listing.id,
            region="fr-par",
            currency=listing.currency,
            tenant_id=None,
            basis_points=5000,
            notice=None,
        )
    page = await console.read("/console/prices")
    rows = [row for row in page.by_id(f"prices-{CHAT}").rows() if row[0].startswith("fr-par")]
    assert [row[0].rsplit(" prc_", 1)[0] for row in rows] == ["fr-par In force", "fr-par Batches"]
    assert rows[-1][1:5] == ["€0.03 30 nano", "€0.008 8 nano", "€0.105 105 nano", "€0.00"]


async def test_nothing_on_it_can_be_changed(console: ConsoleWorld) -> None:
    page = await console.read("/console/prices")
    main = page.one("main")
    assert not main.all("form") and not main.all("input")
