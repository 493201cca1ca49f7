"""Who owns a spool: whoever has the lock of the file beside it. The kernel lets go of it when the process dies."""

import asyncio
import fcntl
import os
from pathlib import Path

_TRY_AGAIN_S = 0.05


class SpoolTaken(Exception):
    """A living process has this spool."""


class SpoolLock:
    """An exclusive `flock`, never waited for inside the kernel. The file stays: removing it would race with its next
    owner. It is not SQLite's own file, whose locks are another kind that some file systems mix up with this one."""

    def __init__(self, spool_path: Path) -> None:
        self._path = spool_path.with_suffix(".lock")
        self._descriptor: int | None = None

    async def take(self, wait_s: float = 0.0) -> None:
        """Raises `SpoolTaken` when it stays another's for `wait_s`, `OSError` when the file cannot be made."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + wait_s
        while not self._try():
            if loop.time() >= give_up_at:
                raise SpoolTaken(self._path.name)
            await asyncio.sleep(_TRY_AGAIN_S)

    def release(self) -> None:
        """Harmless when it is not ours."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _try(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True
