"""What came back on a connection, read as strictly as a client can, and judged by the API that was asked.

One module for the named tests and for the fuzz run: `read_answers` fails on anything that is no HTTP/1.1 answer.
"""

import json
import re
from typing import Any, NamedTuple

_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) [\x20-\x7e]*\Z")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9a-z-]+): ([\x20-\x7e]*)\Z")
_CHUNK_SIZE = re.compile(rb"[0-9a-f]{1,8}\Z")
_MESSAGES = "/v1/messages"
_NO_BODY = (204, 304)


class Unclean(AssertionError):
    """An answer that no client should get."""


class Incomplete(Exception):
    """More of it has to come."""


class Answer(NamedTuple):
    """One answer, complete."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


def read_answers(data: bytes, *, is_head: bool = False) -> tuple[list[Answer], bool]:
    """All whole answers, and whether a part of another one follows. Raises `Unclean`."""
    answers: list[Answer] = []
    at = 0
    while at < len(data):
        try:
            answer, at = _read_one(data, at, is_head=is_head)
        except Incomplete:
            return answers, True
        if answer.status >= 200:
            answers.append(answer)
    return answers, False


def _read_one(data: bytes, at: int, *, is_head: bool) -> tuple[Answer, int]:
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        raise Incomplete
    status_line, *lines = data[at:end].split(b"\r\n")
    found = _STATUS_LINE.match(status_line)
    if found is None:
        raise Unclean(f"no status line: {status_line[:100]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.match(line)
        if header is None or header[1].decode() in headers:
            raise Unclean(f"no header, or one given twice: {line[:100]!r}")
        headers[header[1].decode()] = header[2].decode()
    status = int(found[1])
    at = end + 4
    if is_head and headers.get("connection") == "close":
        # Who cannot be understood may be told why with a body: whoever asked with HEAD drops all until the end.
        return Answer(status, headers, b""), len(data)
    if status < 200 or status in _NO_BODY or is_head:
        return Answer(status, headers, b""), at
    if "transfer-encoding" in headers:
        body, at = _read_chunks(data, at)
        return Answer(status, headers, body), at
    length = int(headers["content-length"])
    if at + length > len(data):
        raise Incomplete
    return Answer(status, headers, data[at : at + length]), at + length


def _read_chunks(data: bytes, at: int) -> tuple[bytes, int]:
    parts = []
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            raise Incomplete
        if not _CHUNK_SIZE.match(data[at:end]):
            raise Unclean(f"no chunk: {data[at : at + 100]!r}")
        size = int(data[at:end], 16)
        at = end + 2
        if at + size + 2 > len(data):
            raise Incomplete
        if data[at + size : at + size + 2] != b"\r\n":
            raise Unclean(f"a chunk does not end: {data[at + size : at + size + 50]!r}")
        parts.append(data[at : at + size])
        at += size + 2
        if size == 0:
            return b"".join(parts), at


def check_refusal(answer: Answer, path: str) -> None:
    """It is a 4xx in the shape of the path's own API, and says which request it was and where. Raises `Unclean`."""
    if not 400 <= answer.status < 500:
        raise Unclean(f"status {answer.status}: {answer.body[:300]!r}")
    check_named(answer)
    if answer.headers.get("content-type") != "application/json":
        raise Unclean(f"an error that is no JSON: {answer.headers}")
    try:
        told: Any = json.loads(answer.body)
    except ValueError:
        raise Unclean(f"an error that is no JSON: {answer.body[:200]!r}") from None
    is_well_told = _is_anthropics if path.startswith(_MESSAGES) else _is_openais
    if not isinstance(told, dict) or not is_well_told(told, answer):
        raise Unclean(f"not the shape of {path}: {answer.body[:300]!r}")


def check_named(answer: Answer) -> None:
    """Every answer says which request it was and where. Raises `Unclean`."""
    if not answer.headers.get("x-request-id", "").startswith("req_") or "x-chappe-region" not in answer.headers:
        raise Unclean(f"an answer without a name: {answer.headers}")


def _is_openais(told: dict[str, Any], _: Answer) -> bool:
    error = told.get("error")
    return (
        isinstance(error, dict)
        and set(told) == {"error"}
        and set(error) == {"message", "type", "param", "code"}
        and bool(error["message"])
        and isinstance(error["message"], str)
        and isinstance(error["code"], str)
        and isinstance(error["param"], str | None)
    )


def _is_anthropics(told: dict[str, Any], answer: Answer) -> bool:
    error = told.get("error")
    return (
        isinstance(error, dict)
        and set(told) == {"type", "error", "request_id"}
        and told["type"] == "error"
        and told["request_id"] == answer.headers["x-request-id"]
        and set(error) == {"type", "message"}
        and isinstance(error["message"], str)
        and bool(error["message"])
    )
