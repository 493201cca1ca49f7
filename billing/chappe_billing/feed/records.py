"""What a batch says of each thing in it, as lines of JSON. Pure: the same rows always give the same bytes.

Amounts are decimal strings, positive for what the tenant owes. `id` is unique in the feed.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from chappe_billing.settled_requests import encode_again, fields_of
from chappe_kernel.ids import LEDGER_TRANSACTION, REQUEST, TENANT, encode_id
from chappe_kernel.money import format_nano, parse_nano

FORMAT = 1
"""Of records and manifest. Another one is for batches that are closed from then on: closed ones keep their bytes."""

_encoder = msgspec.json.Encoder()


class UsageRecord(Struct, frozen=True):
    """A settled request. The tenant owes `amount`, which is `rated` without what was `written_off`."""

    kind: Literal["usage"]
    id: str
    transaction_id: str | None
    """None when it was free of charge."""
    tenant_id: str
    project_id: str
    key_id: str
    region: str
    model: str
    price_version: str
    outcome: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    seconds: int
    images: int
    rated: str
    written_off: str
    amount: str
    currency: str
    started_at: datetime
    finished_at: datetime
    posted_at: datetime
    """By the database's clock, which decides the month."""
    repeats: str | None
    """The request with the same Idempotency-Key that was charged in its place."""


class MoneyRecord(Struct, frozen=True):
    """Any other ledger transaction, by its kind: a correction, a fee or discount of a month, a credit, a payment."""

    kind: str
    id: str
    tenant_id: str
    amount: str
    currency: str
    posted_at: datetime
    corrects: str | None
    """The request whose charge is corrected."""


Record = UsageRecord | MoneyRecord


def amount_nano_of(record: Record) -> int:
    return parse_nano(record.amount)


def usage_record(row: Any) -> UsageRecord:
    """Of a row of `queries.read_usage`."""
    return UsageRecord(
        kind="usage",
        id=encode_id(REQUEST, row.request_id),
        transaction_id=_id_or_none(LEDGER_TRANSACTION, row.transaction_id),
        rated=format_nano(row.amount_nano),
        written_off=format_nano(row.written_off_nano),
        repeats=_id_or_none(REQUEST, row.repeats),
        **fields_of(row),
    )


def money_record(row: Any) -> MoneyRecord:
    """Of a row of `queries.read_money`."""
    return MoneyRecord(
        kind=row.kind,
        id=encode_id(LEDGER_TRANSACTION, row.transaction_id),
        tenant_id=encode_again(TENANT, row.tenant_id),
        amount=format_nano(row.amount_nano),
        currency=row.currency,
        posted_at=row.posted_at,
        corrects=_id_or_none(REQUEST, row.corrected_id),
    )


def lines_of(records: Iterable[Record]) -> bytes:
    """One JSON object a line, each line ended."""
    return _encoder.encode_lines(list(records))


def _id_or_none(prefix: str, value: UUID | None) -> str | None:
    return None if value is None else encode_again(prefix, value)
