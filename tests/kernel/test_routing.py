"""Where a request goes that does not run here: never out of its set, then room, time, money, the tenant's own order."""

from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.routing import Candidate, rank

REGIONS = ("fr-par", "de-fra", "it-mil", "es-mad")

candidates = st.builds(
    Candidate,
    st.sampled_from((*REGIONS, "us-east")),
    answers=st.booleans(),
    price_nano=st.none() | st.integers(0, 10**6),
    running=st.integers(0, 50),
    waiting=st.integers(0, 50),
    limit=st.integers(0, 40),
    ttft_s=st.none() | st.floats(0, 60),
)


@given(
    st.lists(st.sampled_from(REGIONS), unique=True),
    st.lists(candidates, max_size=8, unique_by=lambda known: known.region),
)
def test_whatever_is_known_no_region_is_named_that_is_not_allowed(allowed: list[str], known: list[Candidate]) -> None:
    ranked = rank(allowed, known)
    assert set(ranked) == {
        one.region for one in known if one.region in allowed and one.answers and one.price_nano is not None
    }
    assert len(set(ranked)) == len(ranked)


def ranked(*known: Candidate) -> tuple[str, ...]:
    return rank(REGIONS, known)


def test_the_tenants_order_decides_between_equals() -> None:
    known = [Candidate(region, answers=True, price_nano=5) for region in reversed(REGIONS)]
    assert ranked(*known) == REGIONS
    assert rank(REGIONS[::-1], known) == REGIONS[::-1]


def test_the_cheaper_one_comes_first_among_those_about_as_quick() -> None:
    dear = Candidate("fr-par", answers=True, price_nano=6, ttft_s=0.2)
    cheap = Candidate("de-fra", answers=True, price_nano=5, ttft_s=0.38)
    assert ranked(dear, cheap) == ("de-fra", "fr-par")


def test_no_price_makes_up_for_a_slow_region() -> None:
    dear = Candidate("fr-par", answers=True, price_nano=600, ttft_s=0.2)
    cheap = Candidate("de-fra", answers=True, price_nano=5, ttft_s=0.5)
    assert ranked(dear, cheap) == ("fr-par", "de-fra")


def test_room_comes_before_everything_else() -> None:
    full = Candidate("fr-par", answers=True, price_nano=1, running=8, limit=8, ttft_s=0.01)
    free = Candidate("de-fra", answers=True, price_nano=600, running=7, limit=8, ttft_s=5.0)
    assert ranked(full, free) == ("de-fra", "fr-par")


def test_among_full_ones_the_shorter_queue() -> None:
    long = Candidate("fr-par", answers=True, price_nano=1, running=8, waiting=40, limit=8, ttft_s=0.5)
    short = Candidate("de-fra", answers=True, price_nano=9, running=8, waiting=2, limit=8, ttft_s=0.5)
    assert ranked(long, short) == ("de-fra", "fr-par")


def test_who_was_never_measured_is_tried() -> None:
    known = Candidate("fr-par", answers=True, price_nano=5, ttft_s=2.0)
    new = Candidate("de-fra", answers=True, price_nano=9)
    assert ranked(known, new) == ("de-fra", "fr-par")
