"""Which requests repeat another under the same Idempotency-Key: pure rules.

The cell answers such a repeat without working again, if it can. Where it cannot know (the first was answered by another
gateway that died, or the kept answer is gone) both are worked and counted, and only one is charged.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from msgspec import Struct

from chappe_kernel.wire.control import UsageEvent

WINDOW = timedelta(hours=24)
_WINDOW_MS = WINDOW // timedelta(milliseconds=1)
_MS_SHIFT = 80

Key = tuple[UUID, str, bytes]


class Charged(Struct, frozen=True):
    """A charged request with an Idempotency-Key; the digest is of key and body."""

    request_id: UUID
    project_id: UUID
    region: str
    idempotency_digest: bytes


def window_of(events: Sequence[UsageEvent]) -> tuple[UUID, UUID]:
    """The first and the last id that any of `events` could repeat, or be repeated by."""
    ids = [event.request_id.int for event in events]
    first, last = (min(ids) >> _MS_SHIFT) - _WINDOW_MS, (max(ids) >> _MS_SHIFT) + _WINDOW_MS + 1
    return _id_at(max(first, 0)), _id_at(min(last, (1 << 48) - 1))


def find_repeats(events: Iterable[UsageEvent], region: str, charged: Iterable[Charged]) -> dict[UUID, UUID]:
    """Of each event that is to be free, the charged request that it repeats.

    Time is that of the ids, so that it does not matter in which order or how late events arrive: of two requests within
    24 hours the one that is posted first is charged. What was free itself (a failure) makes no other free.
    """
    known: defaultdict[Key, list[UUID]] = defaultdict(list)
    for one in charged:
        known[one.project_id, one.region, one.idempotency_digest].append(one.request_id)
    repeats = {}
    for event in events:
        if event.idempotency_digest is None:
            continue
        alike = known[event.project_id, region, event.idempotency_digest]
        first = next((other for other in alike if _is_near(event.request_id, other)), None)
        if first is not None:
            repeats[event.request_id] = first
        elif event.amount_nano:
            alike.append(event.request_id)
    return repeats


def _is_near(one: UUID, other: UUID) -> bool:
    return abs((one.int >> _MS_SHIFT) - (other.int >> _MS_SHIFT)) <= _WINDOW_MS


def _id_at(milliseconds: int) -> UUID:
    return UUID(int=milliseconds << _MS_SHIFT)
