"""Answers that are exports: streamed, as a file to keep."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIResponse, Operation
from litestar.params import QueryParameter
from litestar.response import Stream

from chappe_billing.exporting.service import MAX_SPAN, Format, Period
from chappe_control.public import answers

# Whoever comes later waits for their turn; so exports, however many, never take what the API and pages need.
_AT_ONCE = 3

Kind = Annotated[
    Format,
    QueryParameter(
        name="format",
        description="`csv`, `jsonl`: a line for each request. `focus`: charges by hour, as FOCUS 1.2 has them, in CSV.",
    ),
]
Since = Annotated[
    datetime | None,
    QueryParameter(description="Posted from then on; by default from the beginning of `until`'s month."),
]
Until = Annotated[
    datetime | None,
    QueryParameter(description=f"Posted before this; by default now. At most {MAX_SPAN.days} days after `since`."),
]

EXPORT = {
    **answers.LIST,
    HTTPStatus.OK: ResponseSpec(
        data_container=bytes,
        media_type=Format.CSV.media_type,
        description="The file, while it is read.",
        generate_examples=False,
    ),
}


@dataclass
class ExportOperation(Operation):
    """A route whose answer's media type follows from the `format` asked for: a `ResponseSpec` can name one only."""

    def __post_init__(self) -> None:
        for answer in (self.responses or {}).values():
            if isinstance(answer, OpenAPIResponse) and answer.content and Format.CSV.media_type in answer.content:
                one = answer.content[Format.CSV.media_type]
                answer.content = {kind.media_type: one for kind in Format}


class Turns:
    """Which exports may read now."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def take(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same pieces, each read in a turn of its own: a slow reader keeps nobody waiting."""
        while True:
            async with self._free:
                piece = await anext(pieces, None)
            if piece is None:
                return
            if piece:
                yield piece


def as_file(turns: Turns, pieces: AsyncIterator[bytes], kind: Format, period: Period) -> Stream:
    days = f"{period.since:%Y-%m-%d}-{period.until:%Y-%m-%d}"
    name = f"{'focus' if kind is Format.FOCUS else 'usage'}-{days}.{kind.suffix}"
    return Stream(
        turns.take(pieces),
        media_type=kind.media_type,
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )
