"""What a gateway has spooled, by its files: while it runs, after it was killed, and on a copy."""

import contextlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

from chappe_gateway.usage import commit_log


class Spooled(NamedTuple):
    key: bytes
    """A request's id, and what follows it when the event is another story of the same."""
    body: str
    is_shipped: bool


def spooled(path: Path) -> list[Spooled]:
    """Log and SQLite, the former first: what moves meanwhile moves to the latter."""
    found = {row.key: Spooled(row.key, row.body, False) for row in commit_log.recorded(path)}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT request_id, body, shipped_epoch IS NOT NULL FROM event ORDER BY seq")
        in_sqlite = {key: Spooled(key, body, bool(is_shipped)) for key, body, is_shipped in rows}
    return list((found | in_sqlite).values())
