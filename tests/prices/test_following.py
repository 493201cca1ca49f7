"""A discount follows the list price: whatever is published in which order, each of its versions is the list price that
is in force at its start, less the discount, rounded once."""

from datetime import UTC, datetime, timedelta
from math import floor

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from chappe_billing.prices.following import Following, Known, discount_from, follow, in_force
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Price

DAY = timedelta(days=1)
START = datetime(2026, 11, 1, tzinfo=UTC)
PRICES = st.builds(Price, *[st.integers(0, 1000)] * 6)
DAYS = st.integers(0, 20)


def known(day: int, price: Price, basis_points: int | None = None) -> Known:
    return Known(new_id(), START + day * DAY, price, basis_points)


def less(price: Price, basis_points: int) -> tuple[int, ...]:
    return tuple(floor(each * (10_000 - basis_points) / 10_000 + 0.5) for each in astuple(price))


@given(st.lists(PRICES, min_size=1, max_size=5), DAYS, st.integers(0, 10_000))
def test_a_discount_has_a_version_at_its_start_and_at_each_later_change(
    prices: list[Price], day: int, basis_points: int
) -> None:
    listed = [known(4 * number, price) for number, price in enumerate(prices)]
    found = discount_from(listed, START + day * DAY, basis_points)
    assert [one.starts_at for one in found] == sorted(
        {START + day * DAY} | {one.starts_at for one in listed if one.starts_at > START + day * DAY}
    )
    for one in found:
        base = in_force(listed, one.starts_at)
        assert base is not None
        assert astuple(one.price) == less(base.price, basis_points)


@given(PRICES, DAYS, st.dictionaries(DAYS, st.none() | st.integers(0, 10_000), max_size=6))
def test_a_new_list_price_is_followed_by_what_is_in_force_then_and_by_all_that_is_later(
    price: Price, day: int, own_list: dict[int, int | None]
) -> None:
    own = [known(at, Price(1, 1, 1), basis_points) for at, basis_points in sorted(own_list.items())]
    start = START + day * DAY
    after = _apply(own, follow(price, start, own))
    before = in_force(own, start)
    at_start = in_force(after, start)
    if before is not None and before.discount_basis_points is not None:
        assert at_start is not None
        assert astuple(at_start.price) == less(price, before.discount_basis_points)
    for version in after:
        if version.starts_at >= start and version.discount_basis_points is not None:
            assert astuple(version.price) == less(price, version.discount_basis_points)
    assert [one for one in after if one.discount_basis_points is None] == [
        one for one in own if one.discount_basis_points is None
    ], "a fixed price follows nothing"
    assert len({one.starts_at for one in after}) == len(after)


def test_there_is_no_discount_on_what_has_no_list_price() -> None:
    assert discount_from([known(5, Price(1, 1, 1))], START, 1000) == []


def _apply(own: list[Known], found: list[Following]) -> list[Known]:
    replaced = {one.replaces for one in found}
    new = [Known(new_id(), one.starts_at, one.price, one.discount_basis_points) for one in found]
    return sorted([*(one for one in own if one.id not in replaced), *new], key=lambda one: one.starts_at)
