"""What the content store does inside one transaction: objects that belong to one project of one tenant.

Nothing is found without naming both. What a tenant keeps is bounded, and so is what all of them keep.
"""

import os
import sqlite3
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from msgspec import Struct

from chappe_gateway.content import schema
from chappe_gateway.content.sealing import OVERHEAD_BYTES, RegionSeal, TenantSeal, Unreadable
from chappe_kernel.clock import Clock
from chappe_kernel.errors import TooLarge, Unavailable

_log = structlog.get_logger()

# What an object costs beside its content: an empty one must not be free, or nothing bounds their number.
_ROW_BYTES = 1024
_WRITING_S = 3600.0
_HEAD = "head"
CONTENT_LIMIT = "content_limit_reached"
"""The code of what `check_room` raises for a tenant that has kept as much as it may."""


class Owner(NamedTuple):
    """Whose content it is."""

    tenant_id: UUID
    project_id: UUID


class Kind(StrEnum):
    """What an object is: an id of one kind finds none of another."""

    RESPONSE = "response"
    FILE = "file"
    BATCH = "batch"


class Name(NamedTuple):
    """All that it takes to find an object."""

    owner: Owner
    kind: Kind
    id: UUID

    def values(self) -> tuple[bytes, bytes, bytes, str]:
        """In the order of `_MINE`."""
        return self.id.bytes, self.owner.tenant_id.bytes, self.owner.project_id.bytes, self.kind.value


class Bounds(NamedTuple):
    """In bytes, as sealed."""

    per_tenant: int
    in_all: int
    min_free: int
    """Of the disk."""


class Stored(Struct, frozen=True):
    """An object without its body. Times are Unix seconds; `size` is the body's, in bytes."""

    name: Name
    head: bytes
    size: int
    created_at: float
    expires_at: float

    @property
    def id(self) -> UUID:
        return self.name.id


class Page(Struct, frozen=True):
    """Which objects to list: in the order of their ids, which is that in which they were made."""

    limit: int
    after: UUID | None = None
    newest_first: bool = True


_MINE = "id = ? AND tenant_id = ? AND project_id = ? AND kind = ?"
_COLUMNS = "id, tenant_id, project_id, kind, head, size, created_at, expires_at"


class Objects:
    """Every method is part of the caller's transaction on `db`. Raises `Unreadable` for a key that was shredded."""

    def __init__(self, path: Path, seal: RegionSeal, bounds: Bounds, clock: Clock) -> None:
        self._folder = path.parent
        self._seal = seal
        self._bounds = bounds
        self._clock = clock

    def insert(
        self, db: sqlite3.Connection, name: Name, head: bytes, kept_for_s: float, *, is_whole: bool = False
    ) -> None:
        """One that is there already stays as it is; one that is not whole is not found before it is finished.

        Raises `TooLarge`, `Unavailable`."""
        now = self.now()
        self.check_room(db, name.owner, len(head) + OVERHEAD_BYTES + _ROW_BYTES)
        sealed = self._key_of(db, name.owner, may_make=True).seal(name.id, _HEAD, head)
        db.execute(
            "INSERT INTO object"
            " (id, tenant_id, project_id, kind, is_whole, created_at, expires_at, size, weight, head)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?) ON CONFLICT DO NOTHING",
            (*name.values(), int(is_whole), now, now + kept_for_s, len(sealed) + _ROW_BYTES, sealed),
        )

    def append(self, db: sqlite3.Connection, name: Name, number: int, plain: bytes) -> bool:
        """A piece of the body. Whether it is new: what is there already stays as it is, and what has gone is gone.

        Raises as `insert` does."""
        if db.execute(f"SELECT 1 FROM object WHERE {_MINE}", name.values()).fetchone() is None:  # noqa: S608  # our own words
            return False
        self.check_room(db, name.owner, len(plain) + OVERHEAD_BYTES)
        sealed = self._key_of(db, name.owner).seal(name.id, _place(number), plain)
        inserted = db.execute(
            f"INSERT INTO piece (object_id, number, body) SELECT id, ?, ? FROM object WHERE {_MINE}"  # noqa: S608  # our own words
            " ON CONFLICT DO NOTHING",
            (number, sealed, *name.values()),
        ).rowcount
        if inserted:
            db.execute(
                "UPDATE object SET size = size + ?, weight = weight + ? WHERE id = ?",
                (len(plain), len(sealed), name.id.bytes),
            )
        return bool(inserted)

    def finish(self, db: sqlite3.Connection, name: Name, kept_for_s: float | None = None) -> None:
        """From now on it is there, and for no longer after it was begun."""
        db.execute(
            f"UPDATE object SET is_whole = 1, expires_at = min(expires_at, created_at + ?) WHERE {_MINE}",  # noqa: S608  # our own words
            (float("inf") if kept_for_s is None else kept_for_s, *name.values()),
        )

    def set_head(self, db: sqlite3.Connection, name: Name, head: bytes) -> None:
        """Another head for an object that is there."""
        sealed = self._key_of(db, name.owner).seal(name.id, _HEAD, head)
        db.execute(
            f"UPDATE object SET weight = weight + ? - length(head), head = ? WHERE {_MINE}",  # noqa: S608  # our own words
            (len(sealed), sealed, *name.values()),
        )

    def find(self, db: sqlite3.Connection, name: Name) -> Stored | None:
        """None for what is not there, not finished, over its time, or another's."""
        row = db.execute(
            f"SELECT {_COLUMNS} FROM object WHERE {_MINE} AND is_whole = 1 AND expires_at > ?",  # noqa: S608  # our own words
            (*name.values(), self.now()),
        ).fetchone()
        return None if row is None else self._stored(db, row)

    def read(self, db: sqlite3.Connection, name: Name, number: int) -> bytes | None:
        """A piece of a body, also of one that is not finished; None where there is none."""
        row = db.execute(
            f"SELECT body FROM piece JOIN object ON id = object_id WHERE {_MINE} AND number = ?",  # noqa: S608  # our own words
            (*name.values(), number),
        ).fetchone()
        return None if row is None else self._key_of(db, name.owner).open(name.id, _place(number), row[0])

    def body(self, db: sqlite3.Connection, name: Name) -> bytes:
        """All pieces of what is known to be small."""
        pieces = (self.read(db, name, number) for number in self.numbers(db, name.id))
        return b"".join(piece for piece in pieces if piece is not None)

    def numbers(self, db: sqlite3.Connection, object_id: UUID) -> list[int]:
        """Which pieces a body has, ascending."""
        rows = db.execute("SELECT number FROM piece WHERE object_id = ? ORDER BY number", (object_id.bytes,))
        return [number for (number,) in rows]

    def page(self, db: sqlite3.Connection, owner: Owner, kind: Kind, asked: Page) -> list[Stored]:
        compare, direction = ("<", "DESC") if asked.newest_first else (">", "ASC")
        beyond, after = ("", ()) if asked.after is None else (f"AND id {compare} ?", (asked.after.bytes,))
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM object WHERE tenant_id = ? AND project_id = ? AND kind = ? AND is_whole = 1"  # noqa: S608  # our own words
            f" AND expires_at > ? {beyond} ORDER BY id {direction} LIMIT ?",
            (owner.tenant_id.bytes, owner.project_id.bytes, kind.value, self.now(), *after, asked.limit),
        )
        return [self._stored(db, row) for row in rows.fetchall()]

    def drop(self, db: sqlite3.Connection, name: Name) -> None:
        """Delete it, finished or not."""
        db.execute(f"DELETE FROM object WHERE {_MINE}", name.values())  # noqa: S608  # our own words

    def delete(self, db: sqlite3.Connection, name: Name) -> bool:
        """Whether it was there."""
        was_there = self.find(db, name) is not None
        self.drop(db, name)
        return was_there

    def owners(self, db: sqlite3.Connection) -> list[Owner]:
        """Everybody who has something here."""
        rows = db.execute("SELECT DISTINCT tenant_id, project_id FROM object").fetchall()
        return [Owner(UUID(bytes=tenant), UUID(bytes=project)) for tenant, project in rows]

    def keep_within(self, db: sqlite3.Connection, owner: Owner, kept_for_s: float) -> int:
        """Nothing of the owner's is kept longer than this after it was made; with 0 nothing at all. How many go."""
        mine = (owner.tenant_id.bytes, owner.project_id.bytes)
        db.execute(
            "UPDATE object SET expires_at = created_at + ?1"
            " WHERE tenant_id = ?2 AND project_id = ?3 AND expires_at > created_at + ?1",
            (kept_for_s, *mine),
        )
        over = self.now() if kept_for_s > 0 else float("inf")
        gone = "DELETE FROM object WHERE tenant_id = ? AND project_id = ? AND expires_at <= ?"
        return db.execute(gone, (*mine, over)).rowcount

    def sweep(self, db: sqlite3.Connection) -> int:
        """Delete what is over its time and what nobody finished, and the keys of tenants that keep nothing any more:
        copies of their content are unreadable from then on. How many objects went."""
        now = self.now()
        gone = db.execute(
            "DELETE FROM object WHERE expires_at <= ? OR"
            " (is_whole = 0 AND created_at < ? AND id NOT IN (SELECT part_id FROM part))",
            (now, now - _WRITING_S),
        ).rowcount
        db.execute("DELETE FROM tenant WHERE id NOT IN (SELECT tenant_id FROM object)")
        self._wrap_again(db)
        return gone

    def now(self) -> float:
        """Unix seconds."""
        return self._clock.now().timestamp()

    def _key_of(self, db: sqlite3.Connection, owner: Owner, *, may_make: bool = False) -> TenantSeal:
        """Never remembered: another gateway may have shredded it since."""
        row = db.execute("SELECT wrapped_key FROM tenant WHERE id = ?", (owner.tenant_id.bytes,)).fetchone()
        if row is None and may_make:
            row = (self._seal.new_key(owner.tenant_id),)
            db.execute("INSERT INTO tenant (id, wrapped_key) VALUES (?, ?)", (owner.tenant_id.bytes, *row))
        if row is None:
            raise Unreadable
        return self._seal.open_key(owner.tenant_id, row[0])

    def check_room(self, db: sqlite3.Connection, owner: Owner, weight: int) -> None:
        """Whether so many bytes more could be kept now. Raises `TooLarge`, `Unavailable`."""
        stat = os.statvfs(self._folder)
        if (
            stat.f_bavail * stat.f_frsize < self._bounds.min_free + weight
            or schema.used_bytes(db) + weight > self._bounds.in_all
        ):
            raise Unavailable("this region has no room left to keep content", code="content_store_full")
        row = db.execute("SELECT weight FROM tenant WHERE id = ?", (owner.tenant_id.bytes,)).fetchone()
        if (0 if row is None else row[0]) + weight > self._bounds.per_tenant:
            raise TooLarge(
                f"the organisation keeps as much here as it may: {self._bounds.per_tenant} bytes",
                code=CONTENT_LIMIT,
            )

    def _wrap_again(self, db: sqlite3.Connection) -> None:
        """Bring all tenants' keys under the region's newest one."""
        for tenant_id, wrapped in db.execute("SELECT id, wrapped_key FROM tenant").fetchall():
            try:
                again = self._seal.wrap_again(UUID(bytes=tenant_id), wrapped)
            except Unreadable:
                _log.error("content_key_unreadable", tenant_id=str(UUID(bytes=tenant_id)))
                continue
            if again is not None:
                db.execute("UPDATE tenant SET wrapped_key = ? WHERE id = ?", (again, tenant_id))

    def _stored(self, db: sqlite3.Connection, row: Sequence[Any]) -> Stored:
        key, tenant, project, kind, head, size, created_at, expires_at = row
        name = Name(Owner(UUID(bytes=tenant), UUID(bytes=project)), Kind(kind), UUID(bytes=key))
        return Stored(name, self._key_of(db, name.owner).open(name.id, _HEAD, head), size, created_at, expires_at)


def _place(number: int) -> str:
    return f"piece {number}"
