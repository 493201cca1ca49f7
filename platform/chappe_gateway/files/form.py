"""A form with one file in it, read as it comes: no more of it is in memory than a piece."""

from collections.abc import AsyncIterator
from typing import Protocol

from multipart import (  # type: ignore[import-untyped]  # it has no types
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from chappe_gateway.edge.errors import Headers, WrongMediaType
from chappe_kernel.errors import Invalid

FILE = "file"
_MAX_FIELD_BYTES = 1024
_MAX_FIELDS = 8
_MAX_NAME_CHARACTERS = 255


class Sink(Protocol):
    """Takes the file's content."""

    async def write(self, data: bytes) -> None: ...


class Form:
    """What stands in it."""

    def __init__(self, sink: Sink) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._sink = sink
        self._name = ""
        self._field = bytearray()

    async def take(self, event: "MultipartSegment | bytearray | bytes | None") -> None:
        """What the parser says next. Raises `Invalid`, and what the sink raises."""
        if isinstance(event, MultipartSegment):
            self._begin(event)
        elif event is None:
            if self._name != FILE:
                self.fields[self._name] = self._field.decode()
        elif self._name == FILE:
            await self._sink.write(bytes(event))
        else:
            self._field += event
            if len(self._field) > _MAX_FIELD_BYTES:
                raise Invalid(f"`{self._name}` is too long", code="invalid_value", param=self._name)

    def _begin(self, segment: MultipartSegment) -> None:
        self._name = segment.name[:_MAX_NAME_CHARACTERS]
        self._field.clear()
        if self._name in self.fields or (self._name == FILE and self.filename is not None):
            raise Invalid(f"`{self._name}` comes twice", code="invalid_value", param=self._name)
        if self._name == FILE:
            self.filename = segment.filename or FILE
            if len(self.filename) > _MAX_NAME_CHARACTERS or not self.filename.isprintable():
                raise Invalid("the file's name is no name", code="invalid_value", param=FILE)


def read_boundary(headers: Headers) -> str:
    """Raises `WrongMediaType`."""
    kinds = [value.decode("latin-1") for name, value in headers if name == b"content-type"]
    kind, options = parse_options_header(kinds[0]) if len(kinds) == 1 else ("", {})
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise WrongMediaType("the body must be multipart/form-data", param="content-type")
    return str(options["boundary"])


async def read_form(boundary: str, parts: AsyncIterator[bytes], sink: Sink) -> Form:
    """The fields, with the file's content given to `sink`. Raises `Invalid`, and what `parts` and `sink` raise."""
    form = Form(sink)
    try:
        with PushMultipartParser(boundary, max_segment_count=_MAX_FIELDS, strict=True) as parser:
            async for part in parts:
                # To the parser an empty part is the end.
                for event in parser.parse(part) if part else ():
                    await form.take(event)
    except (MultipartError, UnicodeDecodeError):
        # Not chained, nor told: it may quote the body.
        raise Invalid("the form is not understood", code="invalid_form") from None
    if form.filename is None:
        raise Invalid("`file` is missing", code="missing_required_parameter", param=FILE)
    return form
