"""The content store's tables. In the clear stand ids, sizes and times; everything else is sealed."""

import fcntl
import sqlite3
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tenant (
    id BLOB PRIMARY KEY,
    wrapped_key BLOB NOT NULL,
    weight INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS object (
    id BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    tenant_id BLOB NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    project_id BLOB NOT NULL,
    is_whole INTEGER NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    size INTEGER NOT NULL,
    weight INTEGER NOT NULL,
    head BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS object_of ON object (tenant_id, project_id, kind, id);
CREATE INDEX IF NOT EXISTS object_expiring ON object (expires_at);
CREATE TABLE IF NOT EXISTS piece (
    object_id BLOB NOT NULL REFERENCES object (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (object_id, number)
);
CREATE TABLE IF NOT EXISTS part (
    whole_id BLOB NOT NULL REFERENCES object (id) ON DELETE CASCADE,
    part_id BLOB NOT NULL REFERENCES object (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (whole_id, name)
);
CREATE INDEX IF NOT EXISTS part_of ON part (part_id);
CREATE TABLE IF NOT EXISTS lease (
    object_id BLOB PRIMARY KEY REFERENCES object (id) ON DELETE CASCADE,
    holder TEXT NOT NULL,
    until REAL NOT NULL
);
CREATE TRIGGER IF NOT EXISTS object_comes AFTER INSERT ON object BEGIN
    UPDATE tenant SET weight = weight + NEW.weight WHERE id = NEW.tenant_id;
END;
CREATE TRIGGER IF NOT EXISTS object_grows AFTER UPDATE OF weight ON object BEGIN
    UPDATE tenant SET weight = weight + NEW.weight - OLD.weight WHERE id = NEW.tenant_id;
END;
CREATE TRIGGER IF NOT EXISTS object_goes AFTER DELETE ON object BEGIN
    UPDATE tenant SET weight = weight - OLD.weight WHERE id = OLD.tenant_id;
END;
"""
_BUSY_MS = 15_000
_KEPT_LOG_BYTES = 4 * 1024 * 1024


def connect(path: Path) -> sqlite3.Connection:
    """Open it, and make it when it is not there. Raises `sqlite3.Error`, `OSError`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    # Two that make it at once would fail: while the journal's mode changes nobody waits for anybody.
    with path.with_suffix(".lock").open("ab") as lock:
        path.with_suffix(".lock").chmod(0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    # What is deleted is overwritten in the database; its log is overwritten when it is emptied.
    db.execute("PRAGMA secure_delete = ON")
    db.execute(f"PRAGMA journal_size_limit = {_KEPT_LOG_BYTES}")
    db.executescript(_SCHEMA)
    return db


def give_back_space(db: sqlite3.Connection) -> None:
    """Let the disk have what was deleted, and empty the log that still has its sealed bytes."""
    db.execute("PRAGMA incremental_vacuum").fetchall()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def used_bytes(db: sqlite3.Connection) -> int:
    """What the database takes of its disk, less what it could give back."""
    [pages], [free], [page_bytes] = (
        db.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page_bytes)
