"""Whether a backup and its log are what they were, without restoring them."""

import asyncio
import re
import tempfile
from pathlib import Path

from msgspec import Struct

from chappe_kernel.errors import Conflict
from chappe_local.backup import log
from chappe_local.backup.folder import Backup, BackupFolder
from chappe_local.backup.log import Position, Segment
from chappe_local.backup.tools import program, run_and_tell
from chappe_local.backup.unpacking import check_base

_BROKEN_AT = re.compile(r"error in WAL record at [0-9A-F]+/[0-9A-F]+: .* ([0-9A-F]+/[0-9A-F]+)")


class Verified(Struct, frozen=True):
    """`log_ends` is where the last whole record of the log ends; None when there is no log beyond the base backup."""

    files: int
    segments: int
    log_ends: str | None


async def verify_backup(folder: BackupFolder, backup: Backup) -> Verified:
    """Read everything: each file against the manifest, each record of the log against its checksum.

    Raises `Conflict` that names what is damaged or missing. What is broken in the newest segment cannot be told from
    its end.
    """
    files = await asyncio.to_thread(check_base, folder.of(backup), backup)
    source = folder.log_of(backup.server)
    segments = log.needed_segments(source, backup.server.timeline, backup.end_lsn)
    if not segments:
        return Verified(files, 0, None)
    with tempfile.TemporaryDirectory(prefix="chappe-verify-") as name:
        staged = Path(name) / "log"
        log.stage(staged, segments, [])
        command = [
            program("pg_waldump"),
            "--quiet",
            f"--path={staged}",
            f"--timeline={backup.server.timeline}",
            f"--start={backup.end_lsn}",
        ]
        # It always ends with an error: the log has an end.
        _, words = await run_and_tell(command, {"LC_ALL": "C"})
    return Verified(files, len(segments), _check_end(words, segments, log.segment_bytes(source)))


def _check_end(words: str, segments: list[Segment], segment_bytes: int) -> str:
    last = segments[-1]
    match = _BROKEN_AT.search(words)
    if match is None:
        if "could not find file" in words or "could not find a valid record after" in words:
            return f"the end of {last.name}"
        raise Conflict(f"the write-ahead log cannot be read: {words.strip()[-200:]}", code="log_damaged")
    if Position.parse(match[1]).offset // segment_bytes < last.number:
        raise Conflict(f"the write-ahead log is damaged at {match[1]}", code="log_damaged")
    return match[1]
