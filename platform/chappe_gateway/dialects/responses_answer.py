"""An engine's answer, and what goes wrong, in the words of the Responses API. Pure."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from chappe_gateway.dialects.dialect import CallPart, TokenLogprob, read_events, read_whole
from chappe_gateway.dialects.responses_extras import EchoedFormat
from chappe_gateway.dialects.responses_request import Asked
from chappe_gateway.edge.errors import ErrorAnswer, answer_for
from chappe_kernel.errors import ChappeError
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import End, FinishReason, Message, Start, ToolCall

Status = Literal["in_progress", "completed", "incomplete", "failed"]
# An engine knows only its own names of them.
_PARAMS = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "logprobs": "include",
}


class _OutputText(Struct):
    text: str
    type: str = "output_text"
    annotations: tuple[()] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class _LikelyBeside(Struct):
    token: str
    logprob: float


class _EventLogprob(Struct):
    """As in a text's, without the bytes: events have their own form of it."""

    token: str
    logprob: float
    top_logprobs: tuple[_LikelyBeside, ...]


class _OutputMessage(Struct):
    id: str
    status: Status
    content: tuple[_OutputText, ...]
    type: str = "message"
    role: str = "assistant"


class _FunctionCall(Struct):
    id: str
    call_id: str
    name: str
    arguments: str
    status: Status
    type: str = "function_call"


_OutputItem = _OutputMessage | _FunctionCall


class _InputDetails(Struct):
    cached_tokens: int
    cache_write_tokens: int = 0


class _OutputDetails(Struct, frozen=True):
    reasoning_tokens: int = 0


class _Usage(Struct):
    input_tokens: int
    input_tokens_details: _InputDetails
    output_tokens: int
    total_tokens: int
    output_tokens_details: _OutputDetails = _OutputDetails()


class _Error(Struct):
    code: str
    message: str


class _Incomplete(Struct):
    reason: str


class _Response(Struct, kw_only=True):
    id: str
    created_at: int
    status: Status
    model: str
    output: list[_OutputItem]
    instructions: str | None
    max_output_tokens: int | None
    parallel_tool_calls: bool
    temperature: float | None
    top_p: float | None
    usage: _Usage | UnsetType = UNSET
    error: _Error | None = None
    incomplete_details: _Incomplete | None = None
    object: str = "response"
    metadata: dict[str, str]
    previous_response_id: str | None = None
    store: bool = False
    text: EchoedFormat
    tool_choice: Any
    tools: tuple[Any, ...]
    top_logprobs: int
    truncation: str = "disabled"
    background: bool = False


class _Event(Struct, tag_field="type", kw_only=True):
    sequence_number: int = 0


class _Whole(_Event, kw_only=True):
    response: _Response


class _Created(_Whole, tag="response.created"):
    pass


class _InProgress(_Whole, tag="response.in_progress"):
    pass


class _Completed(_Whole, tag="response.completed"):
    pass


class _IncompleteEvent(_Whole, tag="response.incomplete"):
    pass


class _Failed(_Whole, tag="response.failed"):
    pass


class _Item(_Event, kw_only=True):
    item: _OutputItem
    output_index: int


class _ItemAdded(_Item, tag="response.output_item.added"):
    pass


class _ItemDone(_Item, tag="response.output_item.done"):
    pass


class _Part(_Event, kw_only=True):
    item_id: str
    output_index: int
    content_index: int = 0


class _PartAdded(_Part, tag="response.content_part.added"):
    part: _OutputText


class _PartDone(_Part, tag="response.content_part.done"):
    part: _OutputText


class _TextDelta(_Part, tag="response.output_text.delta"):
    delta: str
    logprobs: tuple[_EventLogprob, ...] = ()


class _TextDone(_Part, tag="response.output_text.done"):
    text: str
    logprobs: tuple[_EventLogprob, ...] = ()


class _ArgumentsDelta(_Event, tag="response.function_call_arguments.delta", kw_only=True):
    item_id: str
    output_index: int
    delta: str


class _ArgumentsDone(_Event, tag="response.function_call_arguments.done", kw_only=True):
    item_id: str
    output_index: int
    name: str
    arguments: str


_encoder = msgspec.json.Encoder()


class ResponsesTelling:
    """One answer, in one piece or as a stream. Implements `Dialect` and `Telling`."""

    def __init__(self, request_id: str, created: int, asked: Asked, kept_as: str | None = None) -> None:
        self._id = request_id.removeprefix("req_")
        self._created = created
        self._asked = asked
        self._kept_as = kept_as
        self._items: list[_OutputItem] = []
        """In the stream's order; the last one is open."""
        self._parts: list[str] = []
        """Of the open item's text, or of its arguments."""
        self._logprobs: list[TokenLogprob] = []
        """Of the message's text: there is one at most."""
        self._sent = 0

    def whole(self, body: bytes, end: End) -> bytes:
        words = read_whole(body)[0]
        if words.text or not words.calls:
            self._logprobs += words.logprobs
            self._items.append(self._message("completed", words.text))
        self._items += [self._call(call, call.arguments, "completed") for call in words.calls]
        return _encoder.encode(self._finished(words.finish_reason, end.counts, self._items))

    def stream(self) -> "ResponsesTelling":
        return self

    def events(self, passing: bytes, start: Start) -> bytes:
        told = [] if self._sent else [self._beginning()]
        for words in read_events(passing):
            if words.text or words.logprobs:
                told.append(self._more_text(words.text, words.logprobs))
            for call in words.calls:
                if call.id is not None:
                    told += [self._end_item("completed"), self._begin_call(call)]
                if call.arguments:
                    told.append(self._more_arguments(call.arguments))
        return b"".join(told)

    def last(self, event: UsageEvent, end: End) -> bytes:
        begun = b"" if self._items else self._begin_message()
        ended = begun + self._end_item("incomplete" if end.finish_reason == "length" else "completed")
        response = self._finished(end.finish_reason, event.counts, self._items)
        whole = _Completed if response.status == "completed" else _IncompleteEvent
        return ended + self._tell(whole(response=response))

    def failure(self, error: ChappeError) -> bytes:
        if not self._items:
            self._items.append(self._message("incomplete", ""))
        self._close("incomplete")
        response = self._response("failed", self._items)
        response.error = _Error("server_error", error.message)
        return self._tell(_Failed(response=response))

    def said(self) -> Message:
        """All of it, as the assistant's turn in what follows."""
        items = self._all_items()
        text = "".join(part.text for item in items if isinstance(item, _OutputMessage) for part in item.content)
        calls = [ToolCall(item.call_id, item.name, item.arguments) for item in items if isinstance(item, _FunctionCall)]
        return Message("assistant", text, tuple(calls))

    def finished(self, end: End) -> bytes:
        """The response as it is asked for again, once all of it was said."""
        return _encoder.encode(self._finished(end.finish_reason, end.counts, self._all_items()))

    def _all_items(self) -> list[_OutputItem]:
        """As they will be once the open one is closed, which it stays."""
        if not self._sent:
            return self._items
        if not self._items:
            return [self._message("completed", "")]
        *closed, last = self._items
        said = "".join(self._parts)
        whole = (
            replace(last, status="completed", content=(self._text(said),))
            if isinstance(last, _OutputMessage)
            else replace(last, status="completed", arguments=said)
        )
        return [*closed, whole]

    @property
    def _item_id(self) -> str:
        return f"msg_{self._id}"

    def _beginning(self) -> bytes:
        response = self._response("in_progress", [])
        return self._tell(_Created(response=response)) + self._tell(_InProgress(response=response))

    def _begin_message(self) -> bytes:
        self._items.append(_OutputMessage(self._item_id, "in_progress", ()))
        return self._tell(_ItemAdded(item=self._items[-1], output_index=0)) + self._tell(
            _PartAdded(item_id=self._item_id, output_index=0, part=_OutputText(""))
        )

    def _begin_call(self, call: CallPart) -> bytes:
        item = self._call(call, "", "in_progress")
        self._items.append(item)
        return self._tell(_ItemAdded(item=item, output_index=len(self._items) - 1))

    def _more_text(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> bytes:
        begun = b"" if self._items else self._begin_message()
        self._parts.append(text)
        self._logprobs += logprobs
        delta = _TextDelta(item_id=self._item_id, output_index=0, delta=text, logprobs=_in_events(logprobs))
        return begun + self._tell(delta)

    def _more_arguments(self, arguments: str) -> bytes:
        self._parts.append(arguments)
        item = self._items[-1]
        return self._tell(_ArgumentsDelta(item_id=item.id, output_index=len(self._items) - 1, delta=arguments))

    def _end_item(self, status: Status) -> bytes:
        if not self._items:
            return b""
        item = self._close(status)
        index = len(self._items) - 1
        if isinstance(item, _OutputMessage):
            [part] = item.content
            logprobs = _in_events(part.logprobs)
            done = self._tell(
                _TextDone(item_id=item.id, output_index=index, text=part.text, logprobs=logprobs)
            ) + self._tell(_PartDone(item_id=item.id, output_index=index, part=part))
        else:
            done = self._tell(
                _ArgumentsDone(item_id=item.id, output_index=index, name=item.name, arguments=item.arguments)
            )
        return done + self._tell(_ItemDone(item=item, output_index=index))

    def _close(self, status: Status) -> _OutputItem:
        """The open item, with all that was said in it."""
        item, said = self._items[-1], "".join(self._parts)
        self._parts = []
        item.status = status
        if isinstance(item, _OutputMessage):
            item.content = (self._text(said),)
        else:
            item.arguments = said
        return item

    def _finished(self, finish_reason: FinishReason | None, counts: Counts, items: list[_OutputItem]) -> _Response:
        status: Status = "incomplete" if finish_reason == "length" else "completed"
        items[-1].status = status
        response = self._response(status, items)
        response.usage = _usage(counts)
        if status == "incomplete":
            response.incomplete_details = _Incomplete("max_output_tokens")
        return response

    def _message(self, status: Status, text: str) -> _OutputMessage:
        return _OutputMessage(self._item_id, status, (self._text(text),))

    def _text(self, text: str) -> _OutputText:
        return _OutputText(text, logprobs=tuple(self._logprobs))

    def _call(self, call: CallPart, arguments: str, status: Status) -> _FunctionCall:
        return _FunctionCall(f"fc_{self._id}{call.index}", call.id or "", call.name or "", arguments, status)

    def _response(self, status: Status, output: list[_OutputItem]) -> _Response:
        asked = self._asked
        return _Response(
            id=self._kept_as or f"resp_{self._id}",
            created_at=self._created,
            status=status,
            model=asked.chat.model,
            output=output,
            instructions=asked.instructions,
            max_output_tokens=asked.max_output_tokens,
            parallel_tool_calls=asked.parallel_tool_calls,
            temperature=asked.chat.sampling.temperature,
            top_p=asked.chat.sampling.top_p,
            text=asked.echo.text,
            tool_choice=asked.echo.tool_choice,
            tools=asked.echo.tools,
            metadata=asked.metadata,
            top_logprobs=asked.likeliest or 0,
            store=self._kept_as is not None,
            previous_response_id=asked.previous,
        )

    def _tell(self, event: _Event) -> bytes:
        event.sequence_number = self._sent
        self._sent += 1
        name = str(event.__struct_config__.tag)
        return b"event: " + name.encode() + b"\ndata: " + _encoder.encode(event) + b"\n\n"


def responses_error(error: ChappeError) -> ErrorAnswer:
    """OpenAI's error, with the name that the parameter has in this API."""
    return answer_for(error, _PARAMS)


def _in_events(logprobs: tuple[TokenLogprob, ...]) -> tuple[_EventLogprob, ...]:
    return tuple(
        [
            _EventLogprob(
                token.token,
                token.logprob,
                tuple([_LikelyBeside(likely.token, likely.logprob) for likely in token.top_logprobs]),
            )
            for token in logprobs
        ]
    )


def _usage(counts: Counts) -> _Usage:
    return _Usage(
        input_tokens=counts.prompt_tokens,
        input_tokens_details=_InputDetails(counts.cached_tokens),
        output_tokens=counts.completion_tokens,
        total_tokens=counts.prompt_tokens + counts.completion_tokens,
    )
