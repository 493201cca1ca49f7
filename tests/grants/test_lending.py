"""What is lent of what is free: needs first, and ahead of need no more than a share."""

from hypothesis import given
from hypothesis import strategies as st

from chappe_billing.grants.lending import SHARE, lent_nano

NANO = st.integers(0, 10**12)
NEEDS = st.none() | NANO


@given(NANO, NANO, NANO, NEEDS)
def test_never_more_than_is_free_or_wanted_nor_less_than_the_minimum(
    free: int, wanted: int, minimum: int, needed: int | None
) -> None:
    lent = lent_nano(free, wanted_nano=wanted, minimum_nano=minimum, needed_nano=needed)
    if lent is not None:
        assert minimum <= lent <= min(free, wanted)


@given(NANO, NANO, NANO, NANO)
def test_what_is_needed_is_lent_as_far_as_it_is_there(free: int, extra: int, needed: int, minimum: int) -> None:
    minimum = min(minimum, needed)
    lent = lent_nano(free, wanted_nano=needed + extra, minimum_nano=minimum, needed_nano=needed)
    if free >= minimum:
        assert lent is not None
        assert lent >= min(free, needed)
    else:
        assert lent is None


@given(NANO, NANO, NANO)
def test_ahead_of_need_no_more_than_a_share_is_lent(free: int, wanted: int, needed: int) -> None:
    lent = lent_nano(free, wanted_nano=wanted, minimum_nano=0, needed_nano=needed)
    assert lent is not None
    assert lent <= max(needed, free // SHARE)


@given(NANO, NANO)
def test_who_names_no_need_needs_all_of_it(free: int, wanted: int) -> None:
    assert lent_nano(free, wanted_nano=wanted, minimum_nano=0) == min(free, wanted)


@given(st.integers(1, 10**12))
def test_a_hundred_gateways_that_lease_ahead_leave_something(free: int) -> None:
    """Of everything but the last nanos: no order of asking lets the early ones drain it."""
    left = free
    for _ in range(100):
        lent = lent_nano(left, wanted_nano=10**12, minimum_nano=0, needed_nano=0)
        assert lent is not None
        left -= lent
    assert left >= 1
