"""An engine's answer, and everything that goes wrong, in the words of Anthropic's Messages API. Pure."""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from chappe_gateway.dialects.dialect import is_whole_call, read_events, read_whole
from chappe_gateway.edge.errors import ErrorAnswer, answer_for, told
from chappe_kernel.errors import ChappeError
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import End, FinishReason, Start

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]

_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
}
_STOP_REASONS: dict[FinishReason | None, StopReason] = {"length": "max_tokens", "tool_calls": "tool_use"}
_OVERLOADED = 529
"""Anthropic's own status."""
_TOO_LARGE = 413
# An engine knows only its own name of it.
_PARAMS = {"max_completion_tokens": "max_tokens", "response_format": "output_config.format"}


class _TextBlock(Struct):
    text: str
    type: str = "text"


class _ToolUse(Struct):
    id: str
    name: str
    input: dict[str, Any] | msgspec.Raw
    type: str = "tool_use"


_Block = _TextBlock | _ToolUse


class _Usage(Struct):
    input_tokens: int
    """Without those that were read from the cache."""
    cache_read_input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0


class _Message(Struct):
    id: str
    model: str
    content: list[_Block]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: _Usage
    type: str = "message"
    role: str = "assistant"


class _MessageStart(Struct, tag="message_start"):
    message: _Message


class _BlockStart(Struct, tag="content_block_start"):
    content_block: _Block
    index: int


class _Ping(Struct, tag="ping"):
    pass


class _TextDelta(Struct):
    text: str
    type: str = "text_delta"


class _InputDelta(Struct):
    partial_json: str
    type: str = "input_json_delta"


class _BlockDelta(Struct, tag="content_block_delta"):
    delta: _TextDelta | _InputDelta
    index: int


class _BlockStop(Struct, tag="content_block_stop"):
    index: int


class _Stopped(Struct):
    stop_reason: StopReason | None
    stop_sequence: str | None


class _MessageDelta(Struct, tag="message_delta"):
    delta: _Stopped
    usage: _Usage


class _MessageStop(Struct, tag="message_stop"):
    pass


class _ErrorObject(Struct):
    type: str
    message: str


class _Error(Struct, tag="error"):
    error: _ErrorObject
    request_id: str


_encoder = msgspec.json.Encoder()
_Event = _MessageStart | _BlockStart | _Ping | _BlockDelta | _BlockStop | _MessageDelta | _MessageStop | _Error


class MessagesTelling:
    """One answer, in one piece or as a stream. Implements `Dialect` and `Telling`."""

    def __init__(self, request_id: str, model: str, stops: tuple[str, ...]) -> None:
        self._request_id = request_id
        self._model = model
        self._stops = stops
        self._begun = False
        self._open = -1
        """The number of the block that was begun last."""
        self._is_text = False
        """Whether that is one of text."""

    def whole(self, body: bytes, end: End) -> bytes:
        words = read_whole(body)[0]
        blocks: list[_Block] = [_TextBlock(words.text)] if words.text else []
        blocks += [
            _ToolUse(call.id or "", call.name or "", msgspec.Raw(call.arguments.encode()))
            for call in words.calls
            if is_whole_call(call)
        ]
        return _encoder.encode(self._message(blocks, _usage(end.counts), self._stopped(end, words.finish_reason)))

    def stream(self) -> "MessagesTelling":
        return self

    def events(self, passing: bytes, start: Start) -> bytes:
        told = [] if self._begun else [self._beginning(start)]
        for words in read_events(passing):
            if words.text:
                if not self._is_text:
                    told.append(self._begin_block(_TextBlock("")))
                told.append(_event(_BlockDelta(_TextDelta(words.text), self._open)))
            for call in words.calls:
                if call.id is not None:
                    told.append(self._begin_block(_ToolUse(call.id, call.name or "", {})))
                if call.arguments:
                    told.append(_event(_BlockDelta(_InputDelta(call.arguments), self._open)))
        return b"".join(told)

    def last(self, event: UsageEvent, end: End) -> bytes:
        stopped = self._stopped(end, end.finish_reason)
        return self._end_block() + _event(_MessageDelta(stopped, _usage(event.counts))) + _event(_MessageStop())

    def failure(self, error: ChappeError) -> bytes:
        return b"event: error\ndata: " + messages_error(self._request_id, error).body + b"\n\n"

    def _beginning(self, start: Start) -> bytes:
        self._begun = True
        usage = _usage(Counts(start.prompt_tokens, start.cached_tokens, 0))
        message = self._message([], usage, _Stopped(None, None))
        return _event(_MessageStart(message))

    def _begin_block(self, block: _Block) -> bytes:
        ended = self._end_block()
        self._open += 1
        self._is_text = isinstance(block, _TextBlock)
        return ended + _event(_BlockStart(block, self._open)) + (b"" if self._open else _event(_Ping()))

    def _end_block(self) -> bytes:
        return b"" if self._open < 0 else _event(_BlockStop(self._open))

    def _message(self, blocks: list[_Block], usage: _Usage, stopped: _Stopped) -> _Message:
        return _Message(
            id="msg_" + self._request_id.removeprefix("req_"),
            model=self._model,
            content=blocks,
            stop_reason=stopped.stop_reason,
            stop_sequence=stopped.stop_sequence,
            usage=usage,
        )

    def _stopped(self, end: End, finish_reason: FinishReason | None) -> _Stopped:
        if end.stopped_by is not None and end.stopped_by < len(self._stops):
            return _Stopped("stop_sequence", self._stops[end.stopped_by])
        return _Stopped(_STOP_REASONS.get(finish_reason, "end_turn"), None)


def messages_error(request_id: str, error: ChappeError) -> ErrorAnswer:
    """The same status and headers as OpenAI's clients get; only an engine that is too busy has Anthropic's 529."""
    status, headers, _ = answer_for(error)
    kind = _ERROR_TYPES.get(status, "invalid_request_error")
    if error.code == "overloaded":
        status, kind = _OVERLOADED, "overloaded_error"
    elif status == _TOO_LARGE:
        kind = "request_too_large"
    body = _encoder.encode(_Error(_ErrorObject(kind, _naming_its_parameter(error)), request_id))
    return ErrorAnswer(status, headers, body)


def _naming_its_parameter(error: ChappeError) -> str:
    """Anthropic's error has no field for the parameter."""
    message, param = told(error)
    if param is None:
        return message
    param = _PARAMS.get(param, param)
    return message if f"`{param}`" in message else f"{param}: {message}"


def _usage(counts: Counts) -> _Usage:
    return _Usage(
        input_tokens=counts.prompt_tokens - counts.cached_tokens,
        cache_read_input_tokens=counts.cached_tokens,
        output_tokens=counts.completion_tokens,
    )


def _event(event: _Event) -> bytes:
    data = _encoder.encode(event)
    name = str(event.__struct_config__.tag)
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
