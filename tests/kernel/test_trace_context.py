"""W3C Trace Context: what is valid is read, what is not is nothing, and what is written is valid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.trace_context import TraceContext, begin_trace, is_drawn, parse_trace, read_trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01".encode()


@pytest.mark.parametrize(
    ("parent", "flags"),
    [
        (VALID, 1),
        (f"00-{TRACE}-{SPAN}-00".encode(), 0),
        (f"00-{TRACE}-{SPAN}-ff".encode(), 3),
        (b" " + VALID + b"\t", 1),
        (f"cc-{TRACE}-{SPAN}-01".encode(), 1),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like".encode(), 1),
    ],
)
def test_what_is_valid_is_read(parent: bytes, flags: int) -> None:
    trace = parse_trace(parent)
    assert trace == TraceContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN), flags)


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        b"t",
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-01-more".encode(),
        f"00-{TRACE}-{SPAN}-01.".encode(),
        f"cc-{TRACE}-{SPAN}-01.more".encode(),
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE[1:]}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-1".encode(),
        VALID + b"\r\nx-evil: 1",
        VALID + b"\n",
    ],
)
def test_what_is_not_valid_is_nothing(parent: bytes) -> None:
    assert parse_trace(parent, b"a=1") is None


def test_two_parents_are_none_and_two_states_are_one_list() -> None:
    assert read_trace([(b"traceparent", VALID), (b"traceparent", VALID)]) is None
    assert read_trace([(b"tracestate", b"a=1")]) is None
    trace = read_trace([(b"tracestate", b"a=1"), (b"traceparent", VALID), (b"tracestate", b" b=2 ,, c@v=3")])
    assert trace is not None
    assert trace.state == b"a=1,b=2,c@v=3"


@pytest.mark.parametrize(
    "state",
    [
        b"a",
        b"=1",
        b"A=1",
        b"a=1,a=2",
        b"a=1=2",
        b"a=\x01",
        b"a=",
        b"a@b@c=1",
        ",".join(f"k{i}=v" for i in range(33)).encode(),
    ],
)
def test_a_state_that_is_wrong_is_dropped_and_the_trace_goes_on(state: bytes) -> None:
    trace = parse_trace(VALID, state)
    assert trace is not None
    assert trace.state == b""


def test_a_long_state_loses_its_oldest_members() -> None:
    trace = parse_trace(VALID, b",".join(b"k%d=%b" % (i, b"v" * 200) for i in range(5)))
    assert trace is not None
    assert [member[:2] for member in trace.state.split(b",")] == [b"k0", b"k1"]


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_whatever_comes_what_is_written_is_read_again(parent: bytes, state: bytes) -> None:
    trace = parse_trace(parent, state)
    if trace is not None:
        lines = dict(line.split(b": ", 1) for line in trace.lines().split(b"\r\n") if line)
        assert read_trace(list(lines.items())) == trace


@given(st.binary(min_size=24, max_size=24).filter(lambda drawn: any(drawn[:16]) and any(drawn[16:])), st.booleans())
def test_a_child_is_of_the_same_trace(drawn: bytes, sampled: bool) -> None:
    parent = begin_trace(drawn)
    child = parent.child(b"12345678", sampled=sampled)
    assert (child.trace_id, child.is_sampled) == (parent.trace_id, sampled)
    assert parse_trace(child.lines().partition(b": ")[2].strip()) == child


def test_a_ratio_draws_about_as_many() -> None:
    drawn = [is_drawn(bytes(9) + (i * 2**46).to_bytes(7), 0.25) for i in range(1024)]
    assert sum(drawn) == 256
    assert is_drawn(b"\xff" * 16, 1.0)
    assert not is_drawn(bytes(16), 0.0)
