"""JSON lines, out of pieces of any length. Pure."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

from chappe_kernel.errors import Invalid, TooLarge

MAX_LINES = 50_000
"""OpenAI's, of one batch."""


class LineSplitter:
    """Whole lines without their ends; empty ones are none. Holds one line at most."""

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._begun = bytearray()
        self.lines = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises `TooLarge`, `Invalid`."""
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._add(part)
            yield from self._take()
        self._add(rest)

    def end(self) -> Iterator[bytes]:
        """The last line needs no end."""
        yield from self._take()

    def _add(self, part: bytes) -> None:
        self._begun += part
        if len(self._begun) > self._max_line_bytes:
            raise TooLarge(f"line {self.lines + 1} is over the limit of {self._max_line_bytes} bytes", param="file")

    def _take(self) -> Iterator[bytes]:
        line = bytes(self._begun).strip()
        self._begun.clear()
        if line:
            self.lines += 1
            if self.lines > MAX_LINES:
                raise Invalid(f"a file has at most {MAX_LINES} lines", code="too_many_lines", param="file")
            yield line


_decoder = msgspec.json.Decoder(dict[str, Any])


def check_line(line: bytes, number: int) -> None:
    """Raises `Invalid` for what is no JSON object."""
    try:
        _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid(f"line {number} is not a JSON object", code="invalid_json_line", param="file") from None


async def lines_of(pieces: AsyncIterator[bytes], max_line_bytes: int) -> AsyncIterator[bytes]:
    """All lines of a kept file, in order."""
    splitter = LineSplitter(max_line_bytes)
    async for piece in pieces:
        for line in splitter.feed(piece):
            yield line
    for line in splitter.end():
        yield line
