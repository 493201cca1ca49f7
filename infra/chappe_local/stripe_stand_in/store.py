"""The stand-in's memory: one SQLite file, a transaction per call, so that a kill at any instant leaves whole calls."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chappe_local.stripe_stand_in.errors import Json

_SCHEMA = """
CREATE TABLE IF NOT EXISTS object (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS object_by_kind ON object (kind, seq);
CREATE INDEX IF NOT EXISTS object_by_customer ON object (kind, json_extract(body, '$.customer'), seq);
CREATE INDEX IF NOT EXISTS object_by_intent ON object (kind, json_extract(body, '$.payment_intent'), seq);
CREATE TABLE IF NOT EXISTS answer (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL, created INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS answer_by_age ON answer (created);
CREATE TABLE IF NOT EXISTS delivery (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, endpoint TEXT NOT NULL, due REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'waiting', status INTEGER);
CREATE INDEX IF NOT EXISTS delivery_waiting ON delivery (state, due);
CREATE INDEX IF NOT EXISTS delivery_of_event ON delivery (event);
CREATE TABLE IF NOT EXISTS task (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, due REAL NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Store:
    """All state. Every method but `transaction` is for use inside one."""

    def __init__(self, path: Path | str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What fails inside is undone, and the transaction goes on."""
        self._connection.execute("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK TO attempt")
            self._connection.execute("RELEASE attempt")
            raise
        self._connection.execute("RELEASE attempt")

    def put(self, body: Json) -> None:
        """Add an object, or replace it; its place in lists stays."""
        self._connection.execute(
            "INSERT INTO object (id, kind, body) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            (body["id"], body["object"], json.dumps(body)),
        )

    def find(self, object_id: str) -> Json | None:
        row = self._connection.execute("SELECT body FROM object WHERE id = ?", (object_id,)).fetchone()
        return None if row is None else _read(row[0])

    def place(self, object_id: str) -> int | None:
        """Where it stands in lists: later ones are higher."""
        row = self._connection.execute("SELECT seq FROM object WHERE id = ?", (object_id,)).fetchone()
        return None if row is None else int(row[0])

    def select(
        self,
        kind: str,
        conditions: Sequence[tuple[str, str, Any]] = (),
        *,
        before: int | None = None,
        after: int | None = None,
        oldest_first: bool = False,
        limit: int = -1,
    ) -> list[Json]:
        """Objects of a kind, newest first. A condition is a path in the object, one of `= != < <= > >= IS GLOB IN`, and
        a value, for `IN` a list of them; `before` and `after` are places."""
        where: list[str] = ["kind = ?"]
        values: list[Any] = [kind]
        for path, comparison, value in conditions:
            compared = list(value) if comparison == "IN" else [value]
            marks = ", ".join("?" * len(compared))
            # Written as the indexes are, or they would not be used. The path is always one of ours.
            where.append(
                f"json_extract(body, '$.{path}') {comparison} " + (f"({marks})" if comparison == "IN" else "?")
            )
            values += compared
        for sign, place in (("<", before), (">", after)):
            if place is not None:
                where.append(f"seq {sign} ?")
                values.append(place)
        order = "ASC" if oldest_first else "DESC"
        sql = f"SELECT body FROM object WHERE {' AND '.join(where)} ORDER BY seq {order} LIMIT ?"  # noqa: S608 -- above
        return [_read(row[0]) for row in self._connection.execute(sql, (*values, limit))]

    def kept_answer(self, key: str, since: int) -> tuple[str, int, bytes] | None:
        """What was asked under an idempotency key, and how it was answered. Older ones than `since` are forgotten."""
        self._connection.execute("DELETE FROM answer WHERE created < ?", (since,))
        row = self._connection.execute("SELECT request, status, body FROM answer WHERE key = ?", (key,)).fetchone()
        return None if row is None else (str(row[0]), int(row[1]), bytes(row[2]))

    def keep_answer(self, key: str, request: str, status: int, body: bytes, now: int) -> None:
        self._connection.execute("INSERT INTO answer VALUES (?, ?, ?, ?, ?)", (key, request, status, body, now))

    def setting(self, name: str, default: Any) -> Any:
        row = self._connection.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return default if row is None else json.loads(row[0])

    def set(self, name: str, value: Any) -> None:
        self._connection.execute(
            "INSERT INTO setting VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, json.dumps(value)),
        )

    def add_task(self, due: float, action: str, subject: str) -> None:
        self._connection.execute("INSERT INTO task (due, action, subject) VALUES (?, ?, ?)", (due, action, subject))

    def take_task(self, now: float) -> tuple[str, str] | None:
        """The first task that is due, which is then no longer one."""
        row = self._connection.execute(
            "SELECT seq, action, subject FROM task WHERE due <= ? ORDER BY due, seq LIMIT 1", (now,)
        ).fetchone()
        if row is None:
            return None
        self._connection.execute("DELETE FROM task WHERE seq = ?", (row[0],))
        return str(row[1]), str(row[2])

    def next_task(self) -> float | None:
        due = self._connection.execute("SELECT min(due) FROM task").fetchone()[0]
        return None if due is None else float(due)

    def add_delivery(self, event: str, endpoint: str, due: float) -> None:
        self._connection.execute("INSERT INTO delivery (event, endpoint, due) VALUES (?, ?, ?)", (event, endpoint, due))

    def due_deliveries(self, now: float, *, newest_first: bool, limit: int) -> list[tuple[int, str, str, int]]:
        """Sequence number, event, endpoint, attempts so far."""
        order = "DESC" if newest_first else "ASC"
        columns = "seq, event, endpoint, attempts"
        due = "state = 'waiting' AND due <= ?"
        sql = f"SELECT {columns} FROM delivery WHERE {due} ORDER BY seq {order} LIMIT ?"  # noqa: S608 -- our own words
        return [tuple(row) for row in self._connection.execute(sql, (now, limit))]

    def note_delivery(self, seq: int, *, state: str, attempts: int, due: float, status: int | None) -> None:
        self._connection.execute(
            "UPDATE delivery SET state = ?, attempts = ?, due = ?, status = ? WHERE seq = ?",
            (state, attempts, due, status, seq),
        )

    def make_deliveries_due(self, now: float) -> None:
        """Whatever waits for its time or its next attempt is sent at once."""
        self._connection.execute("UPDATE delivery SET due = ? WHERE state = 'waiting' AND due > ?", (now, now))

    def next_delivery(self) -> float | None:
        due = self._connection.execute("SELECT min(due) FROM delivery WHERE state = 'waiting'").fetchone()[0]
        return None if due is None else float(due)

    def waiting_for(self, event: str) -> int:
        sql = "SELECT count(*) FROM delivery WHERE event = ? AND state = 'waiting'"
        return int(self._connection.execute(sql, (event,)).fetchone()[0])

    def deliveries(self) -> list[Json]:
        """All of them, oldest first, for the switches' page."""
        sql = "SELECT event, endpoint, due, attempts, state, status FROM delivery ORDER BY seq"
        columns = ("event", "endpoint", "due", "attempts", "state", "status")
        return [dict(zip(columns, row, strict=True)) for row in self._connection.execute(sql)]


def _read(body: str) -> Json:
    found: Json = json.loads(body)
    return found
