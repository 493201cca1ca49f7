"""Batches' lines have a list of prices of their own, which follows the list price and is rated like any other."""

from datetime import UTC, datetime, timedelta

import pytest

from chappe_billing.audit.service import verify_ledger
from chappe_billing.price_corrections.service import correct_all
from chappe_billing.prices.queries import all_prices
from chappe_catalogue.listings.queries import sell_in
from chappe_control.snapshot import read_listings
from chappe_kernel.errors import Conflict
from chappe_kernel.ids import ListingId
from chappe_kernel.rating import Outcome, Price, charge, discounted
from chappe_kernel.wire.control import PriceVersion
from tests.billing.conftest import PRICE, Customer, Market
from tests.prices.conftest import Operator
from tests.prices.test_reverting import BAD, COUNTS, spent_nano, use

HALF = 5000


async def batch_prices(market: Market) -> list[PriceVersion]:
    async with market.database.ingest() as session:
        return (await all_prices(session, for_batches=True)).get((market.listing_id, "fr-par"), [])


async def test_gateways_hear_of_it_beside_everybodys_price(operator: Operator, market: Market) -> None:
    half = await operator.discount(None, HALF)
    async with market.database.operator() as session:
        await sell_in(session, ListingId(market.listing_id), ["fr-par"])
    async with market.database.ingest() as session:
        listings = await read_listings(session, datetime.now(UTC))
    [offer] = [one for listing in listings if listing.name == market.listing for one in listing.regions]
    assert [(one.id, one.price) for one in offer.prices] == [(market.prices["fr-par"], PRICE)]
    assert [(one.id, one.price) for one in offer.batch_prices] == [(half, discounted(PRICE, HALF))]


async def test_a_line_is_posted_under_it_to_the_nano_and_nothing_else_changes(
    operator: Operator, market: Market, customer: Customer
) -> None:
    half = await operator.discount(None, HALF)
    price = discounted(PRICE, HALF)
    await use(market, customer, half, price, times=3)
    await use(market, customer, market.prices["fr-par"], PRICE)
    expected = 3 * charge(price, Outcome.COMPLETED, COUNTS) + charge(PRICE, Outcome.COMPLETED, COUNTS)
    assert await spent_nano(market, customer) == expected
    # An amount under the list price is no amount under the batch price.
    grant = await market.ask(customer, 10_000_000)
    wrong = charge(PRICE, Outcome.COMPLETED, COUNTS)
    event = market.event(
        customer, grant.grant_id, price_version=half, counts=COUNTS, amount_nano=wrong, hold_nano=wrong
    )
    assert (await market.ingest(event)).quarantined == 1
    listed = await operator.version(market.prices["fr-par"])
    assert listed.ends_at is None, "the batch price ends nothing"
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


async def test_it_follows_the_list_price(operator: Operator, market: Market) -> None:
    await operator.discount(None, HALF)
    dearer = Price(81, 21, 301, 3)
    await operator.list_price(dearer)
    found = await batch_prices(market)
    assert [one.price for one in found] == [discounted(PRICE, HALF), discounted(dearer, HALF)]
    starts_at = datetime.now(UTC) + timedelta(days=1)
    await operator.discount(None, 0, starts_at)
    assert [one.price for one in await batch_prices(market)][-1] == dearer
    with pytest.raises(Conflict):
        await operator.discount(None, HALF)


async def test_what_a_bad_list_price_cost_its_batches_is_given_back(
    operator: Operator, market: Market, customer: Customer
) -> None:
    await operator.discount(None, HALF)
    (bad,) = await operator.publish(operator.line(BAD))
    [_, bad_for_batches] = await batch_prices(market)
    assert bad_for_batches.price == discounted(BAD, HALF)
    await use(market, customer, bad_for_batches.id, bad_for_batches.price, times=2)
    await operator.revert(bad)
    assert (await batch_prices(market))[-1].price == discounted(PRICE, HALF)
    await correct_all(market.database)
    assert await spent_nano(market, customer) == 2 * charge(discounted(PRICE, HALF), Outcome.COMPLETED, COUNTS)


async def test_a_bad_discount_is_reverted_alone(operator: Operator, market: Market, customer: Customer) -> None:
    own = await operator.discount(customer.tenant_id, 1000)
    mean = await operator.discount(None, 0)
    await use(market, customer, own, discounted(PRICE, 1000))
    await operator.revert(mean)
    assert [one.price for one in await batch_prices(market)] == [PRICE, PRICE]
    assert await correct_all(market.database) == 0
