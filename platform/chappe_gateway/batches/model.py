"""A batch as it is kept and told, and what its lines say. Pure."""

from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from chappe_gateway.content.asking import public_id
from chappe_gateway.content.objects import Kind
from chappe_kernel.wire.control import ResolveKey

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
OVER: tuple[Status, ...] = ("failed", "completed", "expired", "cancelled")
WINDOW_S = 24 * 3600
"""OpenAI's only `completion_window`."""
MAX_ERRORS = 100
_VERSION = "/v1"


def full_path(path: str) -> str:
    """Azure leaves out the version: `/chat/completions`."""
    return path if path.startswith(_VERSION + "/") else _VERSION + path


class LineError(Struct, frozen=True):
    """What is wrong with an input, as OpenAI tells it; lines count from one."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchHead(Struct, frozen=True, kw_only=True):
    """All that is known of a batch beside its counts. Times are Unix seconds."""

    endpoint: Endpoint
    input_file: UUID
    output: UUID
    errors_file: UUID
    key: ResolveKey
    """Whose rights its lines run by."""
    regions: tuple[str, ...]
    """The request's own `x-chappe-region`."""
    metadata: dict[str, str] | None
    created_at: int
    status: Status = "validating"
    total: int = 0
    errors: tuple[LineError, ...] = ()
    at: dict[str, int] = {}
    """When it came into each state."""

    def become(self, status: Status, now: float, **changes: Any) -> "BatchHead":
        """The same in another state."""
        return replace(self, status=status, at={**self.at, status: int(now)}, **changes)

    @property
    def expires_at(self) -> int:
        """When its lines are not run any more."""
        return self.created_at + WINDOW_S


class Counts(Struct, frozen=True):
    completed: int
    failed: int


class _RequestCounts(Struct):
    total: int
    completed: int
    failed: int


class _Errors(Struct):
    data: tuple[LineError, ...]
    object: str = "list"


class BatchObject(Struct, kw_only=True):
    """OpenAI's."""

    id: str
    endpoint: str
    input_file_id: str
    status: Status
    created_at: int
    expires_at: int
    request_counts: _RequestCounts
    errors: _Errors | UnsetType = UNSET
    output_file_id: str | UnsetType = UNSET
    error_file_id: str | UnsetType = UNSET
    in_progress_at: int | UnsetType = UNSET
    finalizing_at: int | UnsetType = UNSET
    completed_at: int | UnsetType = UNSET
    failed_at: int | UnsetType = UNSET
    expired_at: int | UnsetType = UNSET
    cancelling_at: int | UnsetType = UNSET
    cancelled_at: int | UnsetType = UNSET
    metadata: dict[str, str] | None = None
    completion_window: str = "24h"
    object: str = "batch"


def show_batch(batch_id: UUID, head: BatchHead, counts: Counts, region: str) -> BatchObject:
    """The files are named once they can be read."""
    is_over = head.status in OVER
    times: dict[str, Any] = {f"{status}_at": at for status, at in head.at.items()}
    return BatchObject(
        id=public_id(Kind.BATCH, batch_id, region),
        endpoint=head.endpoint,
        input_file_id=public_id(Kind.FILE, head.input_file, region),
        status=head.status,
        created_at=head.created_at,
        expires_at=head.expires_at,
        request_counts=_RequestCounts(head.total, counts.completed, counts.failed),
        errors=_Errors(head.errors) if head.errors else UNSET,
        output_file_id=public_id(Kind.FILE, head.output, region) if is_over and counts.completed else UNSET,
        error_file_id=public_id(Kind.FILE, head.errors_file, region) if is_over and counts.failed else UNSET,
        metadata=head.metadata,
        **times,
    )


class Line(Struct, frozen=True):
    """One request of a batch."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Streams(Struct):
    stream: bool | None = None


_MAX_CUSTOM_ID = 512
_line_decoder = msgspec.json.Decoder(Line)
_body_decoder = msgspec.json.Decoder(_Streams)


def read_line(text: bytes, number: int, endpoint: str) -> Line | LineError:
    """`number` counts from one."""
    try:
        line = _line_decoder.decode(text)
        asked = _body_decoder.decode(bytes(line.body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        what = "a line needs `custom_id`, `method`, `url` and a `body` that is an object"
        return LineError("invalid_request", what, None, number)
    if not 1 <= len(line.custom_id) <= _MAX_CUSTOM_ID:
        what = f"`custom_id` has 1 to {_MAX_CUSTOM_ID} characters"
        return LineError("invalid_value", what, "custom_id", number)
    if line.method != "POST":
        return LineError("invalid_value", "`method` must be POST", "method", number)
    if full_path(line.url) != endpoint:
        return LineError("mismatched_url", "`url` must be the batch's endpoint", "url", number)
    if asked.stream:
        return LineError("unsupported_parameter", "a line's answer is not streamed", "body.stream", number)
    return line


def answered(line: Line, request_id: str, status: int, body: bytes) -> bytes:
    """A line of an output or error file."""
    return _told(
        line.custom_id, request_id, {"status_code": status, "request_id": request_id, "body": msgspec.Raw(body)}
    )


def unanswered(line: Line, request_id: str, code: str, message: str) -> bytes:
    """A line that was not run."""
    return _told(line.custom_id, request_id, None, {"code": code, "message": message})


def _told(
    custom_id: str, request_id: str, response: dict[str, Any] | None, error: dict[str, str] | None = None
) -> bytes:
    told = {
        "id": request_id.replace("req_", "batch_req_", 1),
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return msgspec.json.encode(told) + b"\n"
