"""A charge is exact, never over its hold, and what the outcome's rule says."""

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from chappe_kernel.errors import Invalid
from chappe_kernel.rating import (
    NO_COUNTS,
    Component,
    Counts,
    Outcome,
    Price,
    Total,
    breakdown,
    charge,
    discounted,
    is_chargeable,
    rate,
    rate_total,
    upper_bound,
)

COMPONENTS = st.integers(0, 10**12)
PRICES = st.builds(Price, *[COMPONENTS] * 6)
TOKENS = st.integers(0, 10**7)
UNITS = st.integers(0, 10**5)


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    prompt = draw(TOKENS)
    return Counts(prompt, draw(st.integers(0, prompt)), draw(TOKENS), draw(UNITS), draw(UNITS))


def in_units(price: Price, used: Counts) -> Fraction:
    """The price in whole units of currency by fractions, written from the price list: per token, then summed."""
    nano = Fraction(1, 10**9)
    parts = (
        (used.prompt_tokens, Fraction(price.input_nano_per_token) * nano),
        (used.cached_tokens, Fraction(price.cached_input_nano_per_token - price.input_nano_per_token) * nano),
        (used.completion_tokens, Fraction(price.output_nano_per_token) * nano),
        (1, Fraction(price.request_nano) * nano),
        (used.seconds, Fraction(price.second_nano) * nano),
        (used.images, Fraction(price.image_nano) * nano),
    )
    return sum((number * each for number, each in parts), Fraction(0))


@given(PRICES, counts())
def test_rating_is_exact(price: Price, used: Counts) -> None:
    assert Fraction(rate(price, used), 10**9) == in_units(price, used)


@given(PRICES, st.sampled_from(Outcome), counts())
def test_a_charge_is_the_rated_price_or_nothing(price: Price, outcome: Outcome, used: Counts) -> None:
    delivered = used.completion_tokens + used.seconds + used.images
    free = used == NO_COUNTS or (outcome is Outcome.FAILED and delivered == 0)
    assert Fraction(charge(price, outcome, used), 10**9) == (0 if free else in_units(price, used))


@given(PRICES, st.sampled_from(Outcome), counts(), TOKENS, TOKENS)
def test_a_charge_never_exceeds_its_hold(
    price: Price, outcome: Outcome, used: Counts, spare_prompt: int, spare_completion: int
) -> None:
    hold = upper_bound(
        price,
        used.prompt_tokens + spare_prompt,
        used.completion_tokens + spare_completion,
        max_seconds=used.seconds,
        max_images=used.images,
    )
    assert 0 <= charge(price, outcome, used) <= hold


@given(PRICES, counts())
def test_a_disconnected_request_costs_what_a_completed_one_does(price: Price, used: Counts) -> None:
    assert charge(price, Outcome.DISCONNECTED, used) == charge(price, Outcome.COMPLETED, used)


@given(PRICES, st.integers(1, 10**7))
def test_a_failure_before_the_first_token_is_free(price: Price, prompt: int) -> None:
    assert charge(price, Outcome.FAILED, Counts(prompt, 0, 0)) == 0


@given(PRICES, st.sampled_from(Outcome), counts())
def test_a_breakdown_sums_to_the_charge_and_to_the_rated_price_before_what_is_waived(
    price: Price, outcome: Outcome, used: Counts
) -> None:
    lines = breakdown(price, outcome, used)
    rated = [line for line in lines if line.component is not Component.WAIVED]
    assert sum(line.amount_nano for line in lines) == charge(price, outcome, used)
    assert sum(line.amount_nano for line in rated) == rate(price, used)
    units = used.prompt_tokens + used.completion_tokens + used.seconds + used.images
    assert sum(line.quantity for line in rated) == units + 1
    assert all(line.amount_nano < 0 for line in lines if line.component is Component.WAIVED)


def test_a_breakdown_names_every_price_once() -> None:
    price = Price(input_nano_per_token=60, cached_input_nano_per_token=15, output_nano_per_token=210, request_nano=7)
    lines = breakdown(price, Outcome.COMPLETED, Counts(100, 40, 10))
    assert [(line.component, line.quantity, line.unit_nano) for line in lines] == [
        ("input", 60, 60),
        ("cached_input", 40, 15),
        ("output", 10, 210),
        ("request", 1, 7),
    ]
    (waived,) = breakdown(price, Outcome.FAILED, Counts(100, 40, 0))[4:]
    assert (waived.component, waived.amount_nano) == ("waived", -(60 * 60 + 40 * 15 + 7))


def test_cached_tokens_are_not_priced_as_input() -> None:
    price = Price(input_nano_per_token=60, cached_input_nano_per_token=15, output_nano_per_token=210)
    assert rate(price, Counts(100, 40, 10)) == 60 * 60 + 40 * 15 + 10 * 210


@given(PRICES, st.lists(st.tuples(st.sampled_from(Outcome), counts()), max_size=20))
def test_sums_cost_what_their_requests_do(price: Price, requests: list[tuple[Outcome, Counts]]) -> None:
    chargeable = [used for outcome, used in requests if is_chargeable(outcome, used)]
    columns = zip(*map(astuple, (NO_COUNTS, *chargeable)), strict=True)
    summed = Counts(*(sum(column) for column in columns))
    each = sum(charge(price, outcome, used) for outcome, used in requests)
    assert rate_total(price, Total(len(chargeable), summed)) == each
    assert Fraction(each, 10**9) == sum((in_units(price, used) for used in chargeable), Fraction(0))


@given(PRICES, st.integers(0, 10_000))
def test_a_discount_is_rounded_half_up_component_by_component(price: Price, basis_points: int) -> None:
    exact = [Fraction(component) * (10_000 - basis_points) / 10_000 for component in astuple(price)]
    assert astuple(discounted(price, basis_points)) == tuple(floor(each + Fraction(1, 2)) for each in exact)


def test_no_discount_is_the_price_and_a_whole_one_is_free() -> None:
    price = Price(60, 15, 210, 7, 3, 11)
    assert discounted(price, 0) == price
    assert discounted(price, 10_000) == Price(0, 0, 0)
    assert discounted(Price(1, 1, 1), 5_000) == Price(1, 1, 1), "a half goes up"


@pytest.mark.parametrize("basis_points", [-1, 10_001])
def test_an_impossible_discount_is_refused(basis_points: int) -> None:
    with pytest.raises(Invalid):
        discounted(Price(1, 1, 1), basis_points)


def test_seconds_and_images_have_lines_of_their_own() -> None:
    price = Price(60, 15, 210, second_nano=1_000, image_nano=40_000_000)
    lines = breakdown(price, Outcome.COMPLETED, Counts(10, 0, 0, seconds=90, images=2))
    assert [(line.component, line.quantity, line.amount_nano) for line in lines[4:]] == [
        ("seconds", 90, 90_000),
        ("images", 2, 80_000_000),
    ]


@pytest.mark.parametrize("bad", [(0, 0, 0, -1), (0, 0, 0, 0, -1), (1, 2, 0), (-1, -1, 0), (0, 0, -1), (1, -1, 0)])
def test_impossible_counts_are_refused(bad: tuple[int, ...]) -> None:
    with pytest.raises(Invalid):
        Counts(*bad)


def test_a_negative_price_is_refused() -> None:
    with pytest.raises(Invalid):
        Price(1, 1, -1)
