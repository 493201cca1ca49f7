"""A line for each request. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from chappe_billing.exporting import csv_text
from chappe_billing.settled_requests import fields_of
from chappe_kernel.ids import REQUEST, encode_id

_encoder = msgspec.json.Encoder()
_WRITTEN_BY_TENANTS = frozenset({"project", "key"})


class RequestLine(Struct, frozen=True):
    """`amount` is what it cost the tenant, in `currency`. `posted_at` decides its month."""

    request_id: str
    tenant_id: str
    project_id: str
    project: str | None
    key_id: str
    key: str | None
    region: str
    model: str
    price_version: str
    outcome: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    seconds: int
    images: int
    amount: str
    currency: str
    started_at: datetime
    finished_at: datetime
    posted_at: datetime


COLUMNS = RequestLine.__struct_fields__


def request_line(row: Any) -> RequestLine:
    """Of a row of `queries.read_events`."""
    return RequestLine(
        request_id=encode_id(REQUEST, row.request_id),
        project=row.project,
        key=row.key,
        **fields_of(row),
    )


def as_json_lines(lines: Iterable[RequestLine]) -> bytes:
    return _encoder.encode_lines(list(lines))


def as_csv(lines: Iterable[RequestLine]) -> bytes:
    return csv_text.lines_of([_cell(name, getattr(line, name)) for name in COLUMNS] for line in lines)


def _cell(name: str, value: Any) -> csv_text.Cell:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if name in _WRITTEN_BY_TENANTS and value is not None:
        return csv_text.defused(value)
    cell: csv_text.Cell = value
    return cell
