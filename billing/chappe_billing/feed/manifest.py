"""What is said of a batch beside its content: its number, its sums, its digest, and the batch that it follows. Pure.

A consumer that checks each manifest against the one before misses no batch, takes none twice and none that was altered:
numbers have no gaps, and each manifest holds the digest of the one before.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Self
from uuid import UUID

import msgspec
from msgspec import Struct

from chappe_billing.feed.records import Record, amount_nano_of
from chappe_kernel.money import format_nano, parse_nano

FEED = "rated-usage"
LATEST = f"{FEED}-latest.json"
"""The file that names the newest batch: without it nobody could miss the last one."""


class KindTotal(Struct, frozen=True):
    """Of the records of one kind and currency in one batch."""

    kind: str
    currency: str
    records: int
    amount: str


class RunningTotal(Struct, frozen=True):
    """Of all records in one currency, from the first batch to this one."""

    currency: str
    records: int
    amount: str


class Manifest(Struct, frozen=True):
    """`epoch` is the database's: after a restore it is another one, and a batch of a new epoch takes the place of all
    that had its number, or a higher one, before. `previous` and `chain` are digests of manifests without their `chain`,
    `sha256` is the content's."""

    feed: str
    format: int
    epoch: str
    sequence: int
    file: str
    sha256: str
    size_bytes: int
    records: int
    records_before: int
    totals: tuple[KindTotal, ...]
    running: tuple[RunningTotal, ...]
    closed_at: datetime
    previous: str | None
    chain: str = ""

    def chained(self) -> Self:
        """With the digest of all the rest."""
        bare = msgspec.structs.replace(self, chain="")
        return msgspec.structs.replace(self, chain=sha256(msgspec.json.encode(bare)).hexdigest())

    def encoded(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def file_of(epoch: UUID, sequence: int) -> str:
    """The content's file. Of two epochs that both have a batch of this number, the later one's name sorts later."""
    return f"{FEED}-{sequence:012d}-{epoch.hex[:12]}.jsonl"


def manifest_file_of(file: str) -> str:
    return f"{file.removesuffix('.jsonl')}.manifest.json"


class Totals:
    """Sums of records as they are written, by kind and currency."""

    def __init__(self) -> None:
        self._records: Counter[tuple[str, str]] = Counter()
        self._amounts_nano: Counter[tuple[str, str]] = Counter()

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            self.count(record.kind, record.currency, 1, amount_nano_of(record))

    def count(self, kind: str, currency: str, records: int, amount_nano: int) -> None:
        self._records[kind, currency] += records
        self._amounts_nano[kind, currency] += amount_nano

    @property
    def records(self) -> int:
        return self._records.total()

    def by_kind(self) -> tuple[KindTotal, ...]:
        return tuple(
            KindTotal(kind, currency, self._records[kind, currency], format_nano(self._amounts_nano[kind, currency]))
            for kind, currency in sorted(self._records)
        )


def run_on(before: Sequence[RunningTotal], totals: Iterable[KindTotal]) -> tuple[RunningTotal, ...]:
    """The running totals after a batch with these totals."""
    records = Counter({total.currency: total.records for total in before})
    amounts_nano = Counter({total.currency: parse_nano(total.amount) for total in before})
    for total in totals:
        records[total.currency] += total.records
        amounts_nano[total.currency] += parse_nano(total.amount)
    return tuple(
        RunningTotal(currency, records[currency], format_nano(amounts_nano[currency])) for currency in sorted(records)
    )


def read_running(stored: Sequence[Mapping[str, object]]) -> tuple[RunningTotal, ...]:
    return msgspec.convert(stored, type=tuple[RunningTotal, ...])


def read_totals(stored: Sequence[Mapping[str, object]]) -> tuple[KindTotal, ...]:
    return msgspec.convert(stored, type=tuple[KindTotal, ...])
