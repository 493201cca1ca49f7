"""A breaker opens for what fails often, lets one call probe, and waits longer each time that it fails."""

from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.breaker import Breaker, BreakerState


def opened(now: float = 0.0, draw: float = 0.5) -> Breaker:
    breaker = Breaker()
    for before_s in (0.4, 0.3, 0.2, 0.1, 0.0):
        assert breaker.take(now - before_s)
        breaker.failed(now - before_s, draw)
    return breaker


def test_few_failures_open_nothing() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.failed(0.0, 0.5)
    assert breaker.state(0.0) is BreakerState.CLOSED
    breaker.failed(0.3, 0.5)
    assert breaker.state(0.3) is BreakerState.OPEN
    assert not breaker.take(1.2)


def test_many_failures_at_once_open_nothing() -> None:
    """One of several replicas has died, or this process was held up."""
    breaker = Breaker()
    for _ in range(100):
        breaker.failed(0.0, 0.5)
    assert breaker.is_closed
    for _ in range(102):
        breaker.succeeded(0.2)
    breaker.failed(0.3, 0.5)
    assert breaker.is_closed


def test_failures_among_many_successes_open_nothing() -> None:
    breaker = Breaker()
    for _ in range(1000):
        breaker.succeeded(0.0)
        breaker.succeeded(0.0)
        breaker.failed(0.0, 0.5)
    assert breaker.is_closed


def test_failures_that_are_long_ago_do_not_count() -> None:
    breaker = Breaker()
    for at in range(20):
        breaker.failed(at * 3.0, 0.5)
    assert breaker.is_closed


def test_one_call_probes_and_its_success_closes() -> None:
    breaker = opened()
    assert breaker.state(1.0) is BreakerState.HALF_OPEN
    assert breaker.would_pass(1.0)
    assert breaker.take(1.0)
    assert not breaker.would_pass(1.0)
    assert not breaker.take(1.1)
    breaker.succeeded(1.2)
    assert breaker.state(1.2) is BreakerState.CLOSED
    assert breaker.take(1.2)


def test_a_probe_that_fails_doubles_the_time_up_to_a_bound() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(8):
        opened_at = now
        while not breaker.take(now):
            now += 0.25
        waits.append(now - opened_at)
        breaker.failed(now, 0.5)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_probe_that_says_nothing_lets_another_probe() -> None:
    breaker = opened()
    assert breaker.take(1.0)
    breaker.forget()
    assert breaker.take(1.0)
    assert not breaker.take(10.9)
    assert breaker.take(11.0)


def test_a_success_of_before_it_opened_closes_nothing() -> None:
    breaker = opened()
    breaker.succeeded(0.5)
    assert not breaker.is_closed


def test_chance_spreads_the_next_try_over_as_long_as_the_time_itself() -> None:
    assert opened(draw=0.0).would_pass(0.5)
    assert not opened(draw=0.99).would_pass(1.4)


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.floats(0, 0.99)), max_size=200))
def test_open_never_lasts_longer_than_its_bound(
    steps: list[tuple[float, bool, float]],
) -> None:
    breaker, now = Breaker(), 0.0
    for waited, succeeds, draw in steps:
        now += waited
        passes = breaker.take(now)
        assert passes or not breaker.is_closed
        if passes and succeeds:
            breaker.succeeded(now)
            assert breaker.is_closed
        elif passes:
            breaker.failed(now, draw)
        assert breaker.would_pass(now + 46.0)
