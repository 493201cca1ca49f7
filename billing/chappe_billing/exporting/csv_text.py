"""Lines of CSV (RFC 4180, UTF-8) that no spreadsheet runs as a program. Pure."""

import csv
import io
from collections.abc import Iterable, Sequence

# A cell that begins with one of these may be taken for a formula. Numbers are ours and stay numbers.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
Cell = str | int | None


def defused(text: str) -> str:
    """What somebody else wrote, with an apostrophe before it if it could be taken for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def lines_of(rows: Iterable[Sequence[Cell]]) -> bytes:
    """Nothing for None."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    return buffer.getvalue().encode()
