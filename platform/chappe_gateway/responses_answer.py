"""An engine's answer, and what goes wrong, in the words of the Responses API. Pure."""

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from chappe_gateway.dialects import read_events, read_whole
from chappe_gateway.errors import ErrorAnswer, answer_for
from chappe_gateway.responses_request import Asked
from chappe_kernel.errors import ChappeError
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import End, FinishReason, Start

Status = Literal["in_progress", "completed", "incomplete", "failed"]
# An engine knows only its own names of them.
_PARAMS = {"messages": "input", "max_completion_tokens": "max_output_tokens"}


class _OutputText(Struct):
    text: str
    type: str = "output_text"
    annotations: tuple[()] = ()
    logprobs: tuple[()] = ()


class _OutputMessage(Struct):
    id: str
    status: Status
    content: tuple[_OutputText, ...]
    type: str = "message"
    role: str = "assistant"


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


class _TextFormat(Struct, frozen=True):
    type: str = "text"


class _Text(Struct, frozen=True):
    format: _TextFormat = _TextFormat()


class _Response(Struct, kw_only=True):
    id: str
    created_at: int
    status: Status
    model: str
    output: tuple[_OutputMessage, ...]
    instructions: str | None
    max_output_tokens: int | None
    parallel_tool_calls: bool
    temperature: float | None
    top_p: float | None
    usage: _Usage | UnsetType = UNSET
    error: _Error | None = None
    incomplete_details: _Incomplete | None = None
    object: str = "response"
    metadata: dict[str, str] = {}
    previous_response_id: str | None = None
    store: bool = False
    text: _Text = _Text()
    tool_choice: str = "none"
    tools: tuple[()] = ()
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
    item: _OutputMessage
    output_index: int = 0


class _ItemAdded(_Item, tag="response.output_item.added"):
    pass


class _ItemDone(_Item, tag="response.output_item.done"):
    pass


class _Part(_Event, kw_only=True):
    item_id: str
    output_index: int = 0
    content_index: int = 0


class _PartAdded(_Part, tag="response.content_part.added"):
    part: _OutputText


class _PartDone(_Part, tag="response.content_part.done"):
    part: _OutputText


class _TextDelta(_Part, tag="response.output_text.delta"):
    delta: str
    logprobs: tuple[()] = ()


class _TextDone(_Part, tag="response.output_text.done"):
    text: str
    logprobs: tuple[()] = ()


_encoder = msgspec.json.Encoder()


class ResponsesTelling:
    """One answer, in one piece or as a stream. Implements `Dialect` and `Telling`."""

    def __init__(self, request_id: str, created: int, asked: Asked, kept_as: str | None = None) -> None:
        self._id = request_id.removeprefix("req_")
        self._created = created
        self._asked = asked
        self._kept_as = kept_as
        self._texts: list[str] = []
        self._sent = 0

    def whole(self, body: bytes, end: End) -> bytes:
        answer = read_whole(body)
        self._texts.append(answer.text)
        return _encoder.encode(self._finished(answer.text, answer.finish_reason, end.counts))

    def stream(self) -> "ResponsesTelling":
        return self

    def events(self, passing: bytes, start: Start) -> bytes:
        text = read_events(passing).text
        head = b"" if self._sent else self._beginning()
        if not text:
            return head
        self._texts.append(text)
        return head + self._tell(_TextDelta(item_id=self._item_id, delta=text))

    def last(self, event: UsageEvent, end: End) -> bytes:
        text = "".join(self._texts)
        response = self._finished(text, end.finish_reason, event.counts)
        whole = _Completed if response.status == "completed" else _IncompleteEvent
        return (
            self._tell(_TextDone(item_id=self._item_id, text=text))
            + self._tell(_PartDone(item_id=self._item_id, part=_OutputText(text)))
            + self._tell(_ItemDone(item=response.output[0]))
            + self._tell(whole(response=response))
        )

    def failure(self, error: ChappeError) -> bytes:
        response = self._response("failed", (self._message("incomplete", "".join(self._texts)),))
        response.error = _Error("server_error", error.message)
        return self._tell(_Failed(response=response))

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(self._texts)

    def finished(self, end: End) -> bytes:
        """The response as it is asked for again, once all of it was said."""
        return _encoder.encode(self._finished(self.text, end.finish_reason, end.counts))

    @property
    def _item_id(self) -> str:
        return f"msg_{self._id}"

    def _beginning(self) -> bytes:
        response = self._response("in_progress", ())
        return (
            self._tell(_Created(response=response))
            + self._tell(_InProgress(response=response))
            + self._tell(_ItemAdded(item=_OutputMessage(self._item_id, "in_progress", ())))
            + self._tell(_PartAdded(item_id=self._item_id, part=_OutputText("")))
        )

    def _finished(self, text: str, finish_reason: FinishReason | None, counts: Counts) -> _Response:
        status: Status = "incomplete" if finish_reason == "length" else "completed"
        response = self._response(status, (self._message(status, text),))
        response.usage = _usage(counts)
        if status == "incomplete":
            response.incomplete_details = _Incomplete("max_output_tokens")
        return response

    def _message(self, status: Status, text: str) -> _OutputMessage:
        return _OutputMessage(self._item_id, status, (_OutputText(text),))

    def _response(self, status: Status, output: tuple[_OutputMessage, ...]) -> _Response:
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


def _usage(counts: Counts) -> _Usage:
    return _Usage(
        input_tokens=counts.prompt_tokens,
        input_tokens_details=_InputDetails(counts.cached_tokens),
        output_tokens=counts.completion_tokens,
        total_tokens=counts.prompt_tokens + counts.completion_tokens,
    )
