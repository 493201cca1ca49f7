"""The simulated engine's own knobs: time and faults."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import End
from chappe_serving.engine import Delta, Event
from chappe_serving.engines.simulated import SimulatedEngine, SimulatedOptions
from tests.serving.conftest import chat


class _Died(BaseException):
    """Stands for the process's end."""


class _Time:
    """A clock that is moved by sleeping on it."""

    def __init__(self) -> None:
        self.slept_s = 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        await asyncio.sleep(0)


def _die() -> None:
    raise _Died


async def _run(engine: SimulatedEngine, **changes: int) -> list[Event]:
    return [event async for event in engine.generate(chat("four words in all", **changes))]


async def test_it_takes_the_time_that_its_rates_say() -> None:
    clock = _Time()
    options = SimulatedOptions(prefill_tokens_per_s=100, decode_tokens_per_s=10, answer_tokens=5)
    await _run(SimulatedEngine(options, sleep=clock.sleep))
    assert clock.slept_s == pytest.approx(8 / 100 + 5 / 10)


@given(answer=st.integers(1, 40), bound=st.integers(1, 40))
async def test_counts_and_reason_follow_from_the_bound(answer: int, bound: int) -> None:
    engine = SimulatedEngine(SimulatedOptions(answer_tokens=answer), sleep=_Time().sleep)
    *_, end = await _run(engine, max_tokens=bound)
    assert end == End("completed", Counts(8, 0, min(answer, bound)), "stop" if answer <= bound else "length")


@given(fault=st.integers(0, 9), kind=st.sampled_from(["fail_after_tokens", "stall_after_tokens"]))
async def test_every_fault_ends_in_one_terminal_event(fault: int, kind: str) -> None:
    options = SimulatedOptions(answer_tokens=10, **{kind: fault})
    engine = SimulatedEngine(options, sleep=_Time().sleep)
    request = chat("four words in all")
    events = list[Event]()
    async for event in engine.generate(request):
        events.append(event)
        made = event.counts.completion_tokens if isinstance(event, Delta) else 0
        if kind == "stall_after_tokens" and made == fault - 1:
            asyncio.get_running_loop().call_soon(engine.abort, request.request_id, request.attempt)
        if kind == "stall_after_tokens" and fault == 0:
            engine.abort(request.request_id, request.attempt)
    ends = [event for event in events if isinstance(event, End)]
    assert ends == events[-1:]
    assert ends[0].outcome == ("failed" if kind == "fail_after_tokens" else "aborted")
    assert ends[0].counts.completion_tokens <= fault


async def test_death_comes_after_so_many_tokens() -> None:
    engine = SimulatedEngine(SimulatedOptions(answer_tokens=10, die_after_tokens=3), sleep=_Time().sleep, die=_die)
    events = list[Event]()
    with pytest.raises(_Died):
        async for event in engine.generate(chat("hello")):
            events.append(event)
    assert sum(isinstance(event, Delta) for event in events) == 3
