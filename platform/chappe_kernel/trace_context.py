"""W3C Trace Context (Recommendation, level 1; level 2's random flag passes through): pure reading and writing.

Whoever sends something that is not understood has sent nothing: a new trace may begin, and it is never an error.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"
SAMPLED = 1
_RANDOM = 2
_KNOWN_FLAGS = SAMPLED | _RANDOM

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_FORBIDDEN_VERSION = b"ff"
_FIRST_VERSION = b"00"
_MAX_STATE_BYTES = 512
_MAX_STATE_MEMBERS = 32
_KEY = rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(_KEY + rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_TRACE_BYTES = 16
_SPAN_BYTES = 8
# The last 7 bytes of a trace's id are the random ones, by level 2.
_DRAWN_BYTES = 7


class TraceContext(Struct, frozen=True):
    """Where a request stands in a trace."""

    trace_id: bytes
    """16 bytes, not all zero."""
    span_id: bytes
    """8 bytes, not all zero: the caller's span."""
    flags: int = 0
    state: bytes = b""
    """The value of `tracestate`, checked; empty for none."""

    @property
    def is_sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    def child(self, span_id: bytes, *, sampled: bool) -> "TraceContext":
        """The same trace, seen from a span of ours that is recorded, or is not."""
        return TraceContext(self.trace_id, span_id, (self.flags & _RANDOM) | (SAMPLED * sampled), self.state)

    def lines(self) -> bytes:
        """Header lines for whom we call, as version 00."""
        parent = b"traceparent: 00-%b-%b-%02x\r\n" % (
            self.trace_id.hex().encode(),
            self.span_id.hex().encode(),
            self.flags & _KNOWN_FLAGS,
        )
        return parent + b"tracestate: %b\r\n" % self.state if self.state else parent


def read_trace(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """The caller's context; None if it sent none that is valid. Names are in lower case."""
    parent: bytes | None = None
    states: list[bytes] = []
    for name, value in headers:
        if name == TRACEPARENT:
            if parent is not None:
                return None
            parent = value
        elif name == TRACESTATE:
            states.append(value)
    return None if parent is None else parse_trace(parent, b",".join(states))


def parse_trace(parent: bytes, state: bytes = b"") -> TraceContext | None:
    """Both headers' values. A higher version is read as version 00; a state that is wrong is dropped alone."""
    found = _TRACEPARENT.fullmatch(parent.strip(b" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == _FORBIDDEN_VERSION or (version == _FIRST_VERSION and rest is not None):
        return None
    trace, span = bytes.fromhex(trace_id.decode()), bytes.fromhex(span_id.decode())
    if not any(trace) or not any(span):
        return None
    return TraceContext(trace, span, int(flags, 16) & _KNOWN_FLAGS, _checked_state(state))


def is_drawn(trace_id: bytes, ratio: float) -> bool:
    """Whether a trace is one of the `ratio` (0 to 1) that are recorded: the same answer wherever it is asked."""
    drawn = int.from_bytes(trace_id[-_DRAWN_BYTES:])
    return drawn < ratio * (1 << 8 * _DRAWN_BYTES)


def begin_trace(random: bytes) -> TraceContext:
    """A new trace out of 24 random bytes; its span is ours."""
    return TraceContext(random[:_TRACE_BYTES], random[_TRACE_BYTES : _TRACE_BYTES + _SPAN_BYTES], _RANDOM)


def _checked_state(state: bytes) -> bytes:
    """What may be passed on. Too much of it loses its last members, which are the oldest."""
    members = [member for part in state.split(b",") if (member := part.strip(b" \t"))]
    keys = {member.partition(b"=")[0] for member in members}
    if len(members) > _MAX_STATE_MEMBERS or len(keys) != len(members):
        return b""
    if not all(_MEMBER.fullmatch(member) for member in members):
        return b""
    while members and len(b",".join(members)) > _MAX_STATE_BYTES:
        members.pop()
    return b",".join(members)
