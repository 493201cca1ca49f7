"""The folder that holds backups, and what is in it.

```
BACKUP_DIR/
  20261122T150000.123Z/      one base backup, complete because `backup.json` is there
    base.tar.gz  pg_wal.tar.gz  backup_manifest  backup.json
  wal/7412…-00000001/        write-ahead log of one server on one timeline, as it was streamed
```

A server that was restored goes on under another timeline, so that its log never mixes with what was before. Nothing in
here is encrypted: whoever can read the folder can read the database.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from chappe_kernel.errors import Conflict, Invalid, NotFound

RECORD = "backup.json"
MANIFEST = "backup_manifest"
UNFINISHED = ".unfinished"
_NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z")


class FileDigest(Struct, frozen=True):
    size_bytes: int
    sha256: str


class ServerIdentity(Struct, frozen=True):
    """Which history of which cluster: two of the same identity have the same log."""

    system_identifier: str
    timeline: int

    def __str__(self) -> str:
        return f"{self.system_identifier}-{self.timeline:08X}"


class Backup(Struct, frozen=True):
    """One base backup. Times are the server's; positions are in its write-ahead log. It is consistent from
    `finished_at` on, and with the log of its `server` it leads to any later instant."""

    name: str
    server: ServerIdentity
    server_version: str
    started_at: datetime
    finished_at: datetime
    start_lsn: str
    end_lsn: str
    files: dict[str, FileDigest]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files.values())


class BackupFolder:
    """Everything in one `CHAPPE_BACKUP_DIR`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make it, closed to others."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def backups(self) -> list[Backup]:
        """The complete ones, oldest first."""
        records = sorted(self.path.glob(f"*/{RECORD}"))
        found = [self._read(record) for record in records if _NAME.fullmatch(record.parent.name)]
        return sorted(found, key=lambda backup: backup.finished_at)

    def of(self, backup: Backup) -> Path:
        return self.path / backup.name

    def choose(self, name: str | None, until: datetime | None) -> Backup:
        """The one of this name; else the newest that was finished by `until`. Raises `NotFound`."""
        candidates = self.backups()
        if name is not None:
            candidates = [backup for backup in candidates if backup.name == name]
            if not candidates:
                raise NotFound(f"there is no backup {name} in {self.path}")
        if until is not None:
            candidates = [backup for backup in candidates if backup.finished_at <= until]
            if not candidates:
                raise NotFound(f"no backup was finished by {until.isoformat()}")
        if not candidates:
            raise NotFound(f"there is no complete backup in {self.path}")
        return candidates[-1]

    def log_of(self, server: ServerIdentity) -> Path:
        """Where this server's write-ahead log is streamed to."""
        return self.path / "wal" / str(server)

    def logs(self) -> list[Path]:
        return sorted(path for path in (self.path / "wal").glob("*-*") if path.is_dir())

    def unfinished(self) -> list[Path]:
        """What a backup left that was interrupted."""
        return sorted(self.path.glob(f"*{UNFINISHED}"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One backup or clean-up at a time. Raises `Conflict`."""
        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another backup is running in {self.path}", code="backup_running") from None
        else:
            yield
        finally:
            os.close(descriptor)

    def _read(self, record: Path) -> Backup:
        try:
            return msgspec.json.decode(record.read_bytes(), type=Backup)
        except msgspec.DecodeError as error:
            raise Invalid(f"{record} is damaged: {error}") from error
