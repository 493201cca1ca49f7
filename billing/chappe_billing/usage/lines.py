"""An event's own values as they are sent to the database: a record of fixed width.

One parameter brings a batch's lines, as it is; PostgreSQL cuts it. An array of rows would take six times as long to
encode, and COPY is closed to tables with row-level security.
"""

from datetime import UTC, datetime, timedelta
from struct import Struct
from uuid import UUID

from chappe_billing.usage.allocation import Allocation
from chappe_kernel.wire.control import UsageEvent

_NUMBERS = (
    *("standing", "prompt_tokens", "cached_tokens", "completion_tokens", "seconds", "images"),
    *("amount_nano", "granted_nano", "written_off_nano", "hold_nano", "started_us", "finished_us"),
    *("ttft_ms", "delivered_tokens", "generated_tokens", "digest_length"),
)
_OPTIONAL = frozenset({"ttft_ms", "delivered_tokens", "generated_tokens"})
_NONE = -1
"""Instead of a number that there is not."""
_NO_ID = UUID(int=0)

MAX_DIGEST_BYTES = 64
"""Of an Idempotency-Key's digest. An index takes no more than a third of a page either."""

_LINE = Struct(f">16s16s{len(_NUMBERS)}q{MAX_DIGEST_BYTES}s")
_WIDTH = _LINE.size
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def pack_line(standing: int, event: UsageEvent, allocation: Allocation, repeats: UUID | None) -> bytes:
    """`standing` is the position, from 1, of what the event shares with others."""
    counts, delivered, generated = event.counts, event.delivered, event.generated
    digest = event.idempotency_digest
    return _LINE.pack(
        event.request_id.bytes,
        (repeats or _NO_ID).bytes,
        standing,
        counts.prompt_tokens,
        counts.cached_tokens,
        counts.completion_tokens,
        counts.seconds,
        counts.images,
        event.amount_nano,
        allocation.granted_nano,
        allocation.written_off_nano,
        event.hold_nano,
        (event.started_at - _EPOCH) // _MICROSECOND,
        (event.finished_at - _EPOCH) // _MICROSECOND,
        _NONE if event.ttft_ms is None else event.ttft_ms,
        _NONE if delivered is None else delivered.completion_tokens,
        _NONE if generated is None else generated.completion_tokens,
        _NONE if digest is None else len(digest),
        digest or b"",
    )


def _number(name: str) -> str:
    return f"substring(line, {33 + 8 * _NUMBERS.index(name)}, 8)::bigint"


def _read(name: str) -> str:
    """How a number that there may not be, or an instant, or any other number, is read; under its name."""
    number = _number(name)
    if name.endswith("_us"):
        return f"timestamptz 'epoch' + {number} * interval '1 microsecond' AS {name.removesuffix('_us')}"
    if name in _OPTIONAL:
        return f"nullif({number}, {_NONE}) AS {name}"
    return f"{number} AS {name}"


# OFFSET 0: each line is cut out once, and not once for each of its parts.
READ_LINES = f"""
    SELECT encode(substring(line, 1, 16), 'hex')::uuid AS request_id, {", ".join(map(_read, _NUMBERS))},
           CASE WHEN {_number("digest_length")} <> {_NONE}
                THEN nullif(encode(substring(line, 17, 16), 'hex')::uuid, '{_NO_ID}') END AS repeats,
           CASE WHEN {_number("digest_length")} <> {_NONE}
                THEN substring(line, {33 + 8 * len(_NUMBERS)}, ({_number("digest_length")})::int)
                END AS idempotency_digest
    FROM (
        SELECT substring(CAST(:lines AS bytea), {_WIDTH} * number + 1, {_WIDTH}) AS line
        FROM generate_series(0, length(CAST(:lines AS bytea)) / {_WIDTH} - 1) number OFFSET 0
    ) cut
"""  # noqa: S608  # positions and names of our own
"""SQL that reads the lines of the parameter `lines`, as columns named like the numbers."""
