"""A bad price published everywhere: simulated before, reverted at once, what it cost too much given back, and history
explains all of it."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from chappe_billing.audit.service import verify_ledger
from chappe_billing.price_corrections.dues import GivenEarlier, Story, Wrong, due
from chappe_billing.price_corrections.service import correct_all
from chappe_billing.prices.queries import all_prices
from chappe_billing.prices.service import withdraw_price
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts, Outcome, Price, Total, charge
from tests.billing.conftest import PRICE, Customer, MakeCustomer, Market
from tests.prices.conftest import NOW_IS_ENOUGH, Operator

BAD = Price(600, 150, 2100, 70)
COUNTS = Counts(100, 20, 30)
RIGHT_NANO = charge(PRICE, Outcome.COMPLETED, COUNTS)
BAD_NANO = charge(BAD, Outcome.COMPLETED, COUNTS)


async def use(market: Market, customer: Customer, version_id: UUID, price: Price, times: int = 1) -> None:
    grant = await market.ask(customer, 10_000_000)
    amount = charge(price, Outcome.COMPLETED, COUNTS)
    events = [
        market.event(
            customer, grant.grant_id, price_version=version_id, counts=COUNTS, amount_nano=amount, hold_nano=amount
        )
        for _ in range(times)
    ]
    assert (await market.ingest(*events)).posted == times


async def spent_nano(market: Market, customer: Customer) -> int:
    return 10_000_000_000 - (await market.balance(customer)).available_nano


async def test_a_bad_price_is_seen_before_reverted_at_once_and_given_back(
    operator: Operator, market: Market, customer: Customer, make_customer: MakeCustomer
) -> None:
    other = await make_customer()
    await use(market, customer, market.prices["fr-par"], PRICE)
    (bad,) = await operator.publish(operator.line(BAD))
    await use(market, customer, bad, BAD, times=3)
    await use(market, other, bad, BAD)
    reverted_at = datetime.now(UTC)
    right = await operator.revert(bad)
    async with market.database.ingest() as session:
        known = (await all_prices(session))[market.listing_id, "fr-par"]
    assert [version.id for version in known] == [market.prices["fr-par"], bad, right]
    assert known[-1].price == PRICE
    assert known[-1].starts_at <= reverted_at + timedelta(seconds=60), "gateways hear of it with the next snapshot"
    assert await correct_all(market.database) == 2
    assert await spent_nano(market, customer) == 4 * RIGHT_NANO
    assert await spent_nano(market, other) == RIGHT_NANO
    assert await correct_all(market.database) == 0, "once"
    # A gateway that had not heard of it yet, and a spool that was late.
    await use(market, customer, bad, BAD, times=2)
    assert await correct_all(market.database) == 1
    assert await spent_nano(market, customer) == 6 * RIGHT_NANO
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None
        rows = await session.execute(
            text("SELECT v.reason, c.paid_nano, c.right_nano FROM price_correction c JOIN price_version v "
                 "ON v.id = c.reverted_by WHERE c.tenant_id = :tenant ORDER BY c.id"),
            {"tenant": customer.tenant_id},
        )  # fmt: skip
        assert [tuple(row) for row in rows] == [
            ("a digit too many", 3 * BAD_NANO, 3 * RIGHT_NANO),
            ("a digit too many", 5 * BAD_NANO, 5 * RIGHT_NANO),
        ]


async def test_who_paid_too_little_owes_nothing(operator: Operator, market: Market, customer: Customer) -> None:
    cheap = await operator.list_price(Price(0, 0, 0, 1))
    await use(market, customer, cheap, Price(0, 0, 0, 1))
    await operator.revert(cheap)
    assert await correct_all(market.database) == 0
    assert await spent_nano(market, customer) == 1


async def test_a_discount_on_a_bad_price_is_reverted_with_it(
    operator: Operator, market: Market, customer: Customer
) -> None:
    await operator.discount(customer.tenant_id, 5000)
    bad = await operator.list_price(BAD)
    own = await market.scalar(
        "SELECT id FROM price_version WHERE tenant_id = :tenant ORDER BY starts_at DESC LIMIT 1",
        tenant=customer.tenant_id,
    )
    half_bad, half = Price(300, 75, 1050, 35), Price(30, 8, 105, 4)
    assert (await operator.version(own)).price == half_bad
    await use(market, customer, own, half_bad)
    await operator.revert(bad)
    assert await correct_all(market.database) == 1
    assert await spent_nano(market, customer) == charge(half, Outcome.COMPLETED, COUNTS)
    last = await market.scalar(
        "SELECT id FROM price_version WHERE tenant_id = :tenant ORDER BY starts_at DESC LIMIT 1",
        tenant=customer.tenant_id,
    )
    assert (await operator.version(last)).price == half


async def test_a_tenants_own_bad_price_falls_back_to_the_list_price(
    operator: Operator, market: Market, customer: Customer
) -> None:
    (own,) = await operator.publish(operator.line(BAD), tenant_id=customer.tenant_id)
    await use(market, customer, own, BAD)
    right = await operator.revert(own)
    assert (await operator.version(right)).price == PRICE
    assert await correct_all(market.database) == 1
    assert await spent_nano(market, customer) == RIGHT_NANO


async def test_what_was_reverted_is_not_reverted_to(operator: Operator, market: Market) -> None:
    bad = await operator.list_price(BAD)
    await operator.revert(bad)
    worse = await operator.list_price(Price(9, 9, 9))
    assert (await operator.version(await operator.revert(worse))).price == PRICE


async def test_only_what_is_in_force_is_reverted(operator: Operator, market: Market) -> None:
    with pytest.raises(Conflict) as first:
        await operator.revert(market.prices["fr-par"])
    scheduled = await operator.list_price(BAD, datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(Conflict) as later:
        await operator.revert(scheduled)
    with pytest.raises(NotFound):
        await operator.revert(new_id())
    with pytest.raises(Invalid):
        await operator.revert(market.prices["fr-par"], reason="  ")
    assert (first.value.code, later.value.code) == ("nothing_before", "price_not_in_force")


async def test_a_scheduled_price_is_withdrawn_and_leaves_its_start_to_another(
    operator: Operator, market: Market
) -> None:
    start = datetime.now(UTC) + timedelta(days=1)
    scheduled = await operator.list_price(BAD, start)
    async with market.database.operator() as session:
        await withdraw_price(session, scheduled, reason="a digit too many")
    async with market.database.ingest() as session:
        assert [one.id for one in (await all_prices(session))[market.listing_id, "fr-par"]] == [market.prices["fr-par"]]
    again = await operator.list_price(Price(1, 2, 3), start)
    assert (await operator.version(again)).starts_at == start
    assert await market.scalar("SELECT reason FROM price_withdrawal") == "a digit too many"


async def test_it_is_too_late_to_withdraw_what_gateways_may_not_hear_of(operator: Operator, market: Market) -> None:
    soon = await operator.list_price(BAD, datetime.now(UTC) + timedelta(seconds=200))
    for version_id in (soon, market.prices["fr-par"]):
        with pytest.raises(Conflict) as raised:
            async with market.database.operator() as session:
                await withdraw_price(session, version_id, reason="mistaken")
        assert raised.value.code == "price_started"
    async with market.database.operator() as session:
        await withdraw_price(session, soon, reason="mistaken", notice=NOW_IS_ENOUGH)


TOTALS = st.lists(st.builds(Counts, st.just(50), st.integers(0, 50), st.integers(0, 100)), min_size=1, max_size=8)
PRICES = st.builds(Price, *[st.integers(0, 100)] * 4)


@given(PRICES, PRICES, TOTALS, st.integers(0, 10**6))
def test_never_more_is_given_back_than_was_paid_and_nobody_pays_more_than_the_right_price(
    bad: Price, right: Price, requests: list[Counts], given_nano: int
) -> None:
    wrong = Wrong(new_id(), new_id(), "fr-par", right, new_id())
    total = Total(len(requests), Counts(*(sum(column) for column in zip(*map(_fields, requests), strict=True))))
    paid = sum(charge(bad, Outcome.COMPLETED, counts) for counts in requests)
    rightly = sum(charge(right, Outcome.COMPLETED, counts) for counts in requests)
    found = due(wrong, total, paid)
    assert found.beyond(0) <= paid
    assert paid - found.beyond(0) <= max(rightly, 0) or found.beyond(0) == 0
    assert found.beyond(given_nano) == max(0, paid - rightly - given_nano)


def test_what_a_discrepancy_gave_back_is_not_given_twice() -> None:
    wrong = Wrong(new_id(), new_id(), "fr-par", Price(1, 1, 1), new_id())
    posted, other = Counts(10, 0, 10), Counts(10, 0, 4)
    earlier = GivenEarlier(60, Story(Outcome.COMPLETED, posted), Story(Outcome.COMPLETED, other))
    found = due(wrong, Total(1, posted), 200, [earlier])
    assert (found.paid_nano, found.right_nano, found.beyond(0)) == (140, 14, 126), "it pays what the other story costs"


def _fields(counts: Counts) -> tuple[int, ...]:
    return counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens, counts.seconds, counts.images
