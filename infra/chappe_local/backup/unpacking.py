"""Reading a base backup file by file, each held against the manifest that the server wrote while it made it."""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec
from msgspec import Struct

from chappe_kernel.errors import Conflict
from chappe_local.backup.folder import MANIFEST, Backup
from chappe_local.backup.taking import digest_of

_BASE = "base.tar.gz"
_LOG = "pg_wal.tar.gz"
_READ_BYTES = 1024 * 1024
# Written by the program that makes the archive, so that the server's manifest cannot name it.
_NOT_IN_MANIFEST = frozenset({MANIFEST})


class _ManifestFile(Struct, frozen=True):
    path: str = msgspec.field(name="Path", default="")
    size: int = msgspec.field(name="Size", default=0)
    checksum: str = msgspec.field(name="Checksum", default="")


class _Manifest(Struct, frozen=True):
    files: list[_ManifestFile] = msgspec.field(name="Files")


class Owner(Struct, frozen=True):
    """Whose the files become; -1 leaves them to whoever unpacks."""

    uid: int = -1
    gid: int = -1


def check_base(folder: Path, backup: Backup) -> int:
    """Read all of it; how many files it has. Raises `Conflict` that names what is damaged, missing or too much."""
    return _read(folder, backup, None, Owner())


def unpack_base(folder: Path, backup: Backup, into: Path, owner: Owner) -> int:
    """Check it and make a data folder of it at once; how many files it has. `into` must not exist.

    Raises `Conflict` as `check_base` does; then `into` is left behind, and good for nothing.
    """
    _make_folder(into, owner)
    return _read(folder, backup, into, owner)


def _read(folder: Path, backup: Backup, into: Path | None, owner: Owner) -> int:
    for name in (MANIFEST, _LOG):
        _check_file(folder / name, backup)
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Manifest)
    expected = {file.path: file for file in manifest.files}
    seen = set()
    with _opened(folder / _BASE) as archive:
        for path, source in _members(archive, into, owner):
            size, checksum = _copy(source, into / path if into is not None else None, owner)
            known = expected.get(path)
            if known is None and path not in _NOT_IN_MANIFEST:
                raise _damaged(folder, f"{path} does not belong to it")
            if known is not None and (known.size, known.checksum) != (size, checksum):
                raise _damaged(folder, f"{path} is not what it was")
            seen.add(path)
    if missing := sorted(expected.keys() - seen):
        raise _damaged(folder, f"{missing[0]} is missing")
    with _opened(folder / _LOG) as archive:
        log_folder = None if into is None else into / "pg_wal"
        for path, source in _members(archive, log_folder, owner):
            _copy(source, log_folder / path if log_folder is not None else None, owner)
    return len(seen)


def _check_file(path: Path, backup: Backup) -> None:
    known = backup.files.get(path.name)
    if known is None or not path.exists():
        raise _damaged(path.parent, f"{path.name} is missing")
    if digest_of(path) != known:
        raise _damaged(path.parent, f"{path.name} is not what it was")


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        # PostgreSQL writes a compressed archive in several members, of which `tarfile` alone would read the first.
        with (
            gzip.open(path) as plain,
            tarfile.open(fileobj=plain, mode="r|", bufsize=_READ_BYTES) as archive,
        ):
            yield archive
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise _damaged(path.parent, f"{path.name} cannot be read: {error}") from error


def _members(archive: tarfile.TarFile, into: Path | None, owner: Owner) -> Iterator[tuple[str, IO[bytes]]]:
    """The regular files, folders being made on the way. Whatever else is in there is none of PostgreSQL's making."""
    for member in archive:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise tarfile.TarError(f"{member.name} leads out of it")
        if member.isdir():
            if into is not None and path.parts:
                _make_folder(into / path, owner)
        elif member.isreg() and (source := archive.extractfile(member)) is not None:
            yield str(path), source
        else:
            # Tablespaces: the operator's own server may have them, and where they belong only its operator knows.
            raise tarfile.TarError(f"{member.name} is neither file nor folder")


def _copy(source: IO[bytes], target: Path | None, owner: Owner) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    if target is None:
        while chunk := source.read(_READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
        return size, digest.hexdigest()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchown(descriptor, owner.uid, owner.gid)
        while chunk := source.read(_READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    return size, digest.hexdigest()


def _make_folder(path: Path, owner: Owner) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    os.chown(path, owner.uid, owner.gid)


def _damaged(folder: Path, what: str) -> Conflict:
    return Conflict(f"the backup {folder.name} is damaged: {what}", code="backup_damaged")
