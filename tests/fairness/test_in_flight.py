"""The in-flight budget falls when first tokens are late, climbs when somebody waits, and never exceeds the capacity."""

from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.fairness.in_flight import InFlightLimit, TtftTarget

TARGET = TtftTarget(base_s=1.0, prefill_tokens_per_s=100.0)


def test_a_long_prompt_may_take_its_time() -> None:
    assert not TARGET.is_late(10.9, 1000)
    assert TARGET.is_late(1.2, 10)


def test_late_first_tokens_lower_it_once_for_a_window() -> None:
    limit = InFlightLimit(20, TARGET)
    for _ in range(20):
        limit.observe(0.0, 9.0, 10)
    assert limit.limit == 16
    # These were sent under the old limit.
    for _ in range(100):
        limit.observe(5.0, 12.0, 10)
    assert limit.limit == 16


def test_it_climbs_only_while_somebody_waits() -> None:
    limit = InFlightLimit(20, TARGET)
    for _ in range(20):
        limit.observe(0.0, 9.0, 10)
    for _ in range(40):
        limit.observe(10.0, 10.1, 10)
    assert limit.limit == 16
    limit.note_full()
    for _ in range(16):
        limit.observe(10.0, 10.1, 10)
    assert limit.limit == 17


def test_it_follows_the_capacity() -> None:
    limit = InFlightLimit(20, TARGET)
    limit.resize(40)
    assert limit.limit == 40
    limit.resize(10)
    assert limit.limit == 10


@given(
    st.integers(0, 50),
    st.lists(st.one_of(st.floats(0, 20), st.integers(-5, 60)), max_size=300),
)
def test_it_is_at_least_one_and_never_over_the_capacity(capacity: int, steps: list[float | int]) -> None:
    limit = InFlightLimit(capacity, TARGET)
    for number, step in enumerate(steps):
        limit.note_full()
        if isinstance(step, int):
            limit.resize(step)
        else:
            limit.observe(number, number + step, 10)
        assert 1 <= limit.limit <= limit.capacity
