"""Other APIs than OpenAI's chat completions, told from the same answer of the same engine.

An engine speaks one language, the chat completion's. A dialect translates what it said, after it was counted and before
it is sent or kept: so every API runs through the same admission, holds, limits, relay, records and spool.
"""

from typing import Protocol

import msgspec
from msgspec import Struct

from chappe_gateway.engines.events import BadStream
from chappe_kernel.errors import ChappeError
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import End, FinishReason, Start


class Telling(Protocol):
    """One stream in a dialect. Each method returns whole events."""

    def events(self, passing: bytes, start: Start) -> bytes:
        """The engine's next whole events, translated. Raises `BadStream`."""
        ...

    def last(self, event: UsageEvent, end: End) -> bytes:
        """What stands at the end of a complete answer, with what was charged."""
        ...

    def failure(self, error: ChappeError) -> bytes:
        """What ends a stream that was broken off."""
        ...


class Dialect(Protocol):
    """One request's way to tell its answer."""

    def whole(self, body: bytes, end: End) -> bytes:
        """The engine's whole answer, translated. Raises `BadStream`."""
        ...

    def stream(self) -> Telling: ...


class _Function(Struct):
    arguments: str = ""
    name: str | None = None


class _Call(Struct):
    function: _Function
    index: int = 0
    id: str | None = None


class _Delta(Struct):
    content: str | None = None
    tool_calls: tuple[_Call, ...] = ()


class Likely(Struct, frozen=True):
    """A token that might have stood there."""

    token: str
    logprob: float
    bytes: tuple[int, ...] = ()
    """The token's own: one that is a part of a character has no text."""


class TokenLogprob(Likely, frozen=True):
    """A token that does stand there."""

    top_logprobs: tuple[Likely, ...] = ()


class _Logprobs(Struct):
    content: tuple[TokenLogprob, ...] | None = None


class _Choice(Struct):
    delta: _Delta
    index: int = 0
    finish_reason: FinishReason | None = None
    logprobs: _Logprobs | None = None


class _Chunk(Struct):
    choices: tuple[_Choice]


class _Message(Struct):
    content: str | None = None
    tool_calls: tuple[_Call, ...] = ()


class _WholeChoice(Struct):
    message: _Message
    index: int = 0
    finish_reason: FinishReason | None = None
    logprobs: _Logprobs | None = None


class _Whole(Struct):
    choices: tuple[_WholeChoice, ...]


class CallPart(Struct, frozen=True):
    """A call of a function, or more of its arguments: `id` and `name` stand in the first part only. `index`: the
    call's number within its answer."""

    index: int
    id: str | None
    name: str | None
    arguments: str


class Words(Struct, frozen=True):
    """Some of an engine's words, or all of them: text, then calls, and why they end if they do. `choice`: of which of
    several answers."""

    choice: int
    text: str
    calls: tuple[CallPart, ...]
    finish_reason: FinishReason | None
    logprobs: tuple[TokenLogprob, ...] = ()


_chunk_decoder = msgspec.json.Decoder(_Chunk)
_whole_decoder = msgspec.json.Decoder(_Whole)
_DATA = b"data: "


def read_events(passing: bytes) -> list[Words]:
    """What some whole events of an engine's say, one after another. Raises `BadStream`."""
    said: list[Words] = []
    for event in passing.split(b"\n\n"):
        if not event:
            continue
        if not event.startswith(_DATA):
            raise BadStream("an event is not understood")
        try:
            [choice] = _chunk_decoder.decode(event[len(_DATA) :]).choices
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadStream("an event is not understood") from None
        said.append(_words(choice, choice.delta))
    return said


def read_whole(body: bytes) -> list[Words]:
    """What an engine's whole answers say, at least one. Raises `BadStream`."""
    try:
        choices = _whole_decoder.decode(body).choices
    except (msgspec.DecodeError, UnicodeDecodeError):
        choices = ()
    if not choices:
        raise BadStream("an answer is not understood")
    return [_words(choice, choice.message) for choice in choices]


def is_whole_call(call: CallPart) -> bool:
    """Whether its arguments are JSON: an answer's maximum may have cut the last call short."""
    try:
        msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return False
    return True


def _words(choice: _Choice | _WholeChoice, said: _Delta | _Message) -> Words:
    calls = tuple(
        [CallPart(call.index, call.id, call.function.name, call.function.arguments) for call in said.tool_calls]
    )
    logprobs = () if choice.logprobs is None else choice.logprobs.content or ()
    return Words(choice.index, said.content or "", calls, choice.finish_reason, logprobs)
