"""An engine's event stream: whole events pass verbatim, the two marks that frame them are taken out.

Pure and incremental. Only whole events are let through, so that whatever the gateway adds, an error for instance,
stands at an event's start; one event may have `MAX_EVENT_BYTES`. Each is one line of `data:` that begins and ends as a
JSON object does; to parse what an engine of ours has written would cost more than all else that is done for it.
"""

import re
from typing import TypeVar

import msgspec

from chappe_kernel.errors import ChappeError
from chappe_kernel.wire.engine import END_MARK, START_MARK, End, Start

MAX_EVENT_BYTES = 256 * 1024
T = TypeVar("T")

_BOUNDARY = b"\n\n"
_EVENT_BEGIN = b"data: {"
_EVENT_END = b"}\n\n"
_BETWEEN_EVENTS = _EVENT_END + _EVENT_BEGIN
# In JSON a quote inside text is escaped, so no model can write these.
_TEXT, _SPACED, _CALL = b'"content":"', b'"content": "', b'"arguments":"'
_NO_TEXT, _NO_SPACED, _NO_CALL = b'"content":""', b'"content": ""', b'"arguments":""'
_SOME_TEXT = re.compile(b'"(?:content": ?|arguments":)"[^"]')
_LINES_PER_EVENT = 2

_start_decoder = msgspec.json.Decoder(Start)
_end_decoder = msgspec.json.Decoder(End)


class BadStream(Exception):
    """The engine does not keep to the protocol."""


class EngineEvents:
    """One answer's stream. `start` and `end` appear when their marks were read."""

    def __init__(self) -> None:
        self.start: Start | None = None
        self.end: End | None = None
        self._text_chunks = 0
        self._uncounted = b""
        """What came together with the end. A complete answer's tokens are the engine's to count."""
        self._tail = b""

    @property
    def text_chunks(self) -> int:
        """How many chunks with text, or with a call's arguments, were let through: about one token each."""
        if self._uncounted:
            self._text_chunks += _count_texts(self._uncounted)
            self._uncounted = b""
        return self._text_chunks

    @text_chunks.setter
    def text_chunks(self, value: int) -> None:
        self._text_chunks, self._uncounted = value, b""

    @property
    def has_text(self) -> bool:
        """Whether there was any such chunk."""
        return self._text_chunks > 0 or _SOME_TEXT.search(self._uncounted) is not None

    def feed(self, data: bytes) -> bytes:
        """The whole events that may pass on now. Raises `BadStream`. After the end nothing passes."""
        if self.end is not None:
            return b""
        if self.start is not None and not self._tail and _is_one_event(data):
            self._text_chunks += _count_texts(data)
            return data
        if self._tail:
            data = self._tail + data
        cut = data.rfind(_BOUNDARY) + len(_BOUNDARY)
        if cut < len(_BOUNDARY):
            cut = 0
        self._tail = data[cut:]
        if len(self._tail) > MAX_EVENT_BYTES:
            raise BadStream("an event is too long")
        whole = data[:cut] if self._tail else data
        if not whole:
            return b""
        if self.start is None:
            whole = self._take_start(whole)
        passing = self._take_end(whole)
        if passing and (self.start is None or not _are_events(passing)):
            # It does not pass on, so it must not be charged as complete, even if the end is here already.
            self.end = None
            raise BadStream("an event is not understood, or the stream does not begin with its mark")
        self._note_texts(passing)
        return passing

    def _note_texts(self, passing: bytes) -> None:
        if self.end is None:
            self._text_chunks += _count_texts(passing)
        else:
            self._uncounted = passing

    def _take_start(self, whole: bytes) -> bytes:
        if not whole.startswith(START_MARK):
            return whole
        line_end = whole.index(_BOUNDARY)
        self.start = _decode(_start_decoder, whole[len(START_MARK) : line_end])
        return whole[line_end + len(_BOUNDARY) :]

    def _take_end(self, whole: bytes) -> bytes:
        at = 0 if whole.startswith(END_MARK) else whole.find(_BOUNDARY + END_MARK)
        if at < 0:
            return whole
        begin = at if at == 0 and whole.startswith(END_MARK) else at + len(_BOUNDARY)
        line_end = whole.index(_BOUNDARY, begin)
        self.end = _decode(_end_decoder, whole[begin + len(END_MARK) : line_end])
        self._tail = b""
        return whole[:begin]


def _is_one_event(data: bytes) -> bool:
    """Whether it is one whole event with an object, as nearly always: two lines that begin and end so are nothing
    else."""
    return data.startswith(_EVENT_BEGIN) and data.endswith(_EVENT_END) and data.count(b"\n") == _LINES_PER_EVENT


def _are_events(passing: bytes) -> bool:
    """Whether each of these whole events is one line: of `data:` with an object in it, or a comment."""
    if passing.startswith(_EVENT_BEGIN) and passing.endswith(_EVENT_END):
        lines = passing.count(b"\n")
        # Events and no comment, as nearly always.
        if lines == _LINES_PER_EVENT * (1 + passing.count(_BETWEEN_EVENTS)):
            return True
    return all(map(_is_event, passing.removesuffix(_BOUNDARY).split(_BOUNDARY)))


def _is_event(event: bytes) -> bool:
    is_object = event.startswith(_EVENT_BEGIN) and event.endswith(b"}")
    return b"\n" not in event and (is_object or event.startswith(b":"))


def _count_texts(events: bytes) -> int:
    """Chunks with text, in whole events. Counting all and taking off the empty ones is ten times as fast as a pattern
    that tells them apart."""
    count = events.count
    return count(_TEXT) + count(_SPACED) + count(_CALL) - count(_NO_TEXT) - count(_NO_SPACED) - count(_NO_CALL)


def decode_end(header: bytes | None) -> End | None:
    """The `End` of an answer in one piece, from its header; `None` when there is no valid one."""
    if header is None:
        return None
    try:
        return _decode(_end_decoder, header)
    except BadStream:
        return None


def _decode(decoder: "msgspec.json.Decoder[T]", data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, ChappeError):
        raise BadStream("a mark is not understood") from None
