"""Other APIs than OpenAI's chat completions, told from the same answer of the same engine.

An engine speaks one language, the chat completion's. A dialect translates what it said, after it was counted and before
it is sent or kept: so every API runs through the same admission, holds, limits, relay, records and spool.
"""

from typing import Protocol

import msgspec
from msgspec import Struct

from chappe_gateway.events import BadStream
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


class Delta(Struct):
    """A chunk of an engine's answer."""

    content: str | None = None


class _Choice(Struct):
    delta: Delta
    finish_reason: FinishReason | None = None


class _Chunk(Struct):
    choices: tuple[_Choice]


class _Message(Struct):
    content: str


class _WholeChoice(Struct):
    message: _Message
    finish_reason: FinishReason | None = None


class _Whole(Struct):
    choices: tuple[_WholeChoice]


class Text(Struct, frozen=True):
    """An engine's words in one piece, and why they end."""

    text: str
    finish_reason: FinishReason | None


_chunk_decoder = msgspec.json.Decoder(_Chunk)
_whole_decoder = msgspec.json.Decoder(_Whole)
_DATA = b"data: "


def read_events(passing: bytes) -> Text:
    """What some whole events of an engine's say together. Raises `BadStream`."""
    texts: list[str] = []
    finish_reason: FinishReason | None = None
    for event in passing.split(b"\n\n"):
        if not event:
            continue
        if not event.startswith(_DATA):
            raise BadStream("an event is not understood")
        try:
            [choice] = _chunk_decoder.decode(event[len(_DATA) :]).choices
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadStream("an event is not understood") from None
        texts.append(choice.delta.content or "")
        finish_reason = choice.finish_reason or finish_reason
    return Text("".join(texts), finish_reason)


def read_whole(body: bytes) -> Text:
    """What an engine's whole answer says. Raises `BadStream`."""
    try:
        [choice] = _whole_decoder.decode(body).choices
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadStream("an answer is not understood") from None
    return Text(choice.message.content, choice.finish_reason)
