"""The write-ahead log as it was streamed: its segments, whether one is missing, and what a restore reads.

The stream writes each record as the server flushes it, into `NAME.partial` until the segment is full. So a machine that
is lost takes with it what was written since the last few milliseconds, not since the last full segment.
"""

import re
from pathlib import Path

from msgspec import Struct

from chappe_kernel.errors import Conflict

SLOT = "chappe_archive"
_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")
_HISTORY = re.compile(r"[0-9A-F]{8}\.history")
_PARTIAL = ".partial"
_USUAL_SEGMENT_BYTES = 16 * 1024 * 1024


class Segment(Struct, frozen=True, order=True):
    """`number` counts from the log's beginning."""

    number: int
    path: Path
    name: str
    """Without `.partial`."""


class Position(Struct, frozen=True, order=True):
    """A place in the log, in bytes from its beginning; PostgreSQL writes it as `0/2000028`."""

    offset: int

    @classmethod
    def parse(cls, text: str) -> "Position":
        high, _, low = text.partition("/")
        return cls(int(high, 16) << 32 | int(low, 16))


def segment_bytes(folder: Path) -> int:
    """How long this server's segments are: 16 MiB, unless its cluster was made otherwise."""
    sizes = {path.stat().st_size for path in folder.glob("*") if _SEGMENT.fullmatch(path.name)}
    return max(sizes, default=_USUAL_SEGMENT_BYTES)


def list_segments(folder: Path, timeline: int) -> list[Segment]:
    """Those of one timeline, in order. A whole segment counts, not the part of it that was there before."""
    per_high = (1 << 32) // segment_bytes(folder)
    found: dict[int, Segment] = {}
    for path in sorted(folder.glob("*")):
        match = _SEGMENT.fullmatch(path.name)
        if match is None or int(match[1], 16) != timeline:
            continue
        number = int(match[2], 16) * per_high + int(match[3], 16)
        name = path.name.removesuffix(_PARTIAL)
        if number not in found or match[4] is None:
            found[number] = Segment(number, path, name)
    return [found[number] for number in sorted(found)]


def needed_segments(folder: Path, timeline: int, end_lsn: str) -> list[Segment]:
    """The segments that lead on from a base backup that ends at `end_lsn`: from there to the last, without a gap.

    None when the stream has not come so far. Raises `Conflict` when one is missing: what is after it is out of reach.
    """
    segments = list_segments(folder, timeline)
    first = Position.parse(end_lsn).offset // segment_bytes(folder)
    later = [segment for segment in segments if segment.number >= first]
    if not later:
        return []
    expected = range(first, later[-1].number + 1)
    missing = sorted(set(expected) - {segment.number for segment in later})
    if missing:
        raise Conflict(
            f"{len(missing)} of {len(expected)} segments of the write-ahead log are missing in {folder}, "
            f"the first after {_name_before(later, missing[0])}",
            code="log_incomplete",
        )
    return later


def histories(folders: list[Path]) -> list[Path]:
    """All timelines that are known: a restore begins one that is none of them."""
    return [path for folder in folders for path in sorted(folder.glob("*.history")) if _HISTORY.fullmatch(path.name)]


def stage(into: Path, segments: list[Segment], timelines: list[Path]) -> None:
    """Make a folder of links under the names by which the server asks."""
    into.mkdir(mode=0o755)
    for segment in segments:
        (into / segment.name).symlink_to(segment.path.resolve())
    for path in timelines:
        link = into / path.name
        if not link.exists():
            link.symlink_to(path.resolve())


def _name_before(segments: list[Segment], number: int) -> str:
    before = [segment.name for segment in segments if segment.number < number]
    return before[-1] if before else "the base backup"
