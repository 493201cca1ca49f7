"""Batches in the content store: whose turn it is to run one, what became of its lines, where it stands.

A batch is held by one gateway at a time, by a lease that it renews. Should two hold it for a moment nevertheless, each
line still has one answer, the first, and one charge.
"""

import sqlite3
from collections.abc import Callable
from uuid import UUID

import msgspec
from msgspec import Struct

from chappe_gateway.batches.model import OVER, BatchHead, Counts
from chappe_gateway.content.objects import Kind, Name, Objects, Owner
from chappe_gateway.files.model import FileHead

OUTPUT, ERRORS = "output", "errors"
_decoder = msgspec.json.Decoder(BatchHead)
_FREE = ""


class Found(Struct, frozen=True):
    """A batch and how far it is."""

    name: Name
    head: BatchHead
    counts: Counts


def create(objects: Objects, db: sqlite3.Connection, name: Name, head: BatchHead, kept_for_s: float) -> Found:
    """With its two files, which nobody sees before it is over. Raises `TooLarge`, `Unavailable`."""
    objects.insert(db, name, msgspec.json.encode(head), kept_for_s, is_whole=True)
    for role, file_id in ((OUTPUT, head.output), (ERRORS, head.errors_file)):
        file_head = FileHead(f"{role}.jsonl", "batch_output")
        objects.insert(db, _file(name, file_id), msgspec.json.encode(file_head), kept_for_s)
        part = "INSERT INTO part (whole_id, part_id, name) VALUES (?, ?, ?)"
        db.execute(part, (name.id.bytes, file_id.bytes, role))
    db.execute("INSERT INTO lease (object_id, holder, until) VALUES (?, ?, 0)", (name.id.bytes, _FREE))
    return Found(name, head, Counts(0, 0))


def read(objects: Objects, db: sqlite3.Connection, name: Name) -> Found | None:
    """None when it is not there any more."""
    stored = objects.find(db, name)
    if stored is None:
        return None
    head = _decoder.decode(stored.head)
    return Found(name, head, Counts(_lines(db, head.output), _lines(db, head.errors_file)))


def claim(objects: Objects, db: sqlite3.Connection, holder: str, lease_s: float) -> Name | None:
    """The batch that nobody holds and that has waited longest; from now on it is the holder's."""
    now = objects.now()
    row = db.execute(
        "UPDATE lease SET holder = ?, until = ? WHERE object_id ="
        " (SELECT object_id FROM lease WHERE until < ? ORDER BY until, object_id LIMIT 1) RETURNING object_id",
        (holder, now + lease_s, now),
    ).fetchone()
    if row is None:
        return None
    tenant, project = db.execute("SELECT tenant_id, project_id FROM object WHERE id = ?", row).fetchone()
    return Name(Owner(UUID(bytes=tenant), UUID(bytes=project)), Kind.BATCH, UUID(bytes=row[0]))


def renew(objects: Objects, db: sqlite3.Connection, name: Name, holder: str, lease_s: float) -> Found | None:
    """As it stands now; None when it is not the holder's any more, or gone."""
    key = (objects.now() + lease_s, name.id.bytes, holder)
    renewed = db.execute("UPDATE lease SET until = ? WHERE object_id = ? AND holder = ?", key).rowcount
    return read(objects, db, name) if renewed else None


def give_up(db: sqlite3.Connection, name: Name, holder: str) -> None:
    """Another may go on with it at once."""
    db.execute("UPDATE lease SET until = 0 WHERE object_id = ? AND holder = ?", (name.id.bytes, holder))


def change(
    objects: Objects, db: sqlite3.Connection, name: Name, become: Callable[[BatchHead], BatchHead]
) -> Found | None:
    """Bring it into another state. Once it is over it stays as it is, and its files can be read."""
    found = read(objects, db, name)
    if found is None or found.head.status in OVER:
        return found
    head = become(found.head)
    objects.set_head(db, name, msgspec.json.encode(head))
    if head.status in OVER:
        db.execute("DELETE FROM lease WHERE object_id = ?", (name.id.bytes,))
        for file_id, lines in ((head.output, found.counts.completed), (head.errors_file, found.counts.failed)):
            if lines:
                objects.finish(db, _file(name, file_id))
            else:
                objects.drop(db, _file(name, file_id))
    return Found(name, head, found.counts)


def done_lines(objects: Objects, db: sqlite3.Connection, head: BatchHead) -> set[int]:
    """The numbers of the lines that have an answer or an error."""
    return {*objects.numbers(db, head.output), *objects.numbers(db, head.errors_file)}


def keep_line(
    objects: Objects, db: sqlite3.Connection, found: Found, number: int, text: bytes, *, is_error: bool
) -> bool:
    """What became of a line; whatever is known of it already stays. Whether it is new. Raises `TooLarge`,
    `Unavailable`."""
    files = (found.head.output, found.head.errors_file)
    known = "SELECT 1 FROM piece WHERE number = ? AND object_id IN (?, ?)"
    if db.execute(known, (number, *(file_id.bytes for file_id in files))).fetchone() is not None:
        return False
    return objects.append(db, _file(found.name, files[is_error]), number, text)


def _file(batch: Name, file_id: UUID) -> Name:
    return Name(batch.owner, Kind.FILE, file_id)


def _lines(db: sqlite3.Connection, file_id: UUID) -> int:
    count: int = db.execute("SELECT count(*) FROM piece WHERE object_id = ?", (file_id.bytes,)).fetchone()[0]
    return count
