"""A way to the database that breaks where a test says: between the client and the server, on the wire.

It counts what the server is asked to execute, so it sees whatever a client sends, by SQLAlchemy or past it, and COMMIT
too, whose answer can get lost after it was executed. When it breaks, the server has rolled back before the client
hears of it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError

from chappe_kernel.errors import Unavailable

_SOCKET = ".s.PGSQL.5432"
_QUERY, _PARSE, _BIND, _EXECUTE, _COPY_DONE = b"Q", b"P", b"B", b"E", b"c"
_BACKEND_READY = b"Z"
_HEAD = 5
_ENTER = "set_config('role'"
"""How each transaction of ours begins. What a pool does before and after, to see whether its connection lives, is not
counted: when that breaks, it makes another connection and nobody hears of it."""

BROKEN = (DBAPIError, OSError, Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a client may see of a way that broke."""


@dataclass
class _Session:
    """One connection: its two ends, and the names that the client gave its statements."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    statements: dict[bytes, str] = field(default_factory=dict)
    bound: str = ""
    is_inside: bool = False
    is_losing_answers: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Cut:
    """A socket of its own in front of the server's. It breaks once each time that it is told to."""

    def __init__(self, server_dir: Path, own_dir: Path) -> None:
        self._server_dir = server_dir
        self.dir = own_dir
        self.statements: list[str] = []
        """What was executed since `arm`."""
        self.was_cut = False
        self.committed = False
        """Whether a COMMIT has reached the server since `arm`."""
        self._before: int | None = None
        self._loses_commit = False
        self._commits_first = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Cut"]:
        server = await asyncio.start_unix_server(self._serve, self.dir / _SOCKET)
        try:
            yield self
        finally:
            server.close()

    def arm(self, *, before: int | None = None, loses_commit: bool = False, commits_first: int = 0) -> None:
        """Count anew. Break before the statement of this number, from 0; or execute a COMMIT and lose the answer, after
        so many others."""
        self.statements = []
        self.was_cut = self.committed = False
        self._before, self._loses_commit, self._commits_first = before, loses_commit, commits_first

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._server_dir / _SOCKET)
        session = _Session(to_client, to_server)
        answers = asyncio.create_task(self._pass_answers(session, from_server))
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._pass_questions(session, from_client)
            # The server ends its transaction before it closes its side.
            with contextlib.suppress(OSError):
                to_server.write_eof()
            await answers
        finally:
            to_server.close()
            to_client.close()

    async def _pass_questions(self, session: _Session, from_client: asyncio.StreamReader) -> None:
        startup = await from_client.readexactly(4)
        session.server.write(startup + await from_client.readexactly(int.from_bytes(startup) - 4))
        while True:
            head = await from_client.readexactly(_HEAD)
            body = await from_client.readexactly(int.from_bytes(head[1:]) - 4)
            if (statement := _executed(session, head[:1], body)) is not None and await self._is_the_end(
                session, statement, head + body
            ):
                return
            session.server.write(head + body)
            await session.server.drain()

    async def _is_the_end(self, session: _Session, statement: str, message: bytes) -> bool:
        session.is_inside = session.is_inside or _ENTER in statement
        if not session.is_inside:
            return False
        if self._before == len(self.statements):
            self.was_cut, self._before = True, None
            return True
        self.statements.append(statement)
        is_commit = statement.startswith("COMMIT")
        self.committed = self.committed or is_commit
        session.is_inside = not statement.startswith(("COMMIT", "ROLLBACK"))
        if not (is_commit and self._loses_commit):
            return False
        if self._commits_first:
            self._commits_first -= 1
            return False
        self.was_cut, self._loses_commit, session.is_losing_answers = True, False, True
        session.server.write(message)
        await asyncio.wait_for(session.ended.wait(), 10)
        return True

    async def _pass_answers(self, session: _Session, from_server: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await from_server.readexactly(_HEAD)
                body = await from_server.readexactly(int.from_bytes(head[1:]) - 4)
                if session.is_losing_answers:
                    if head[:1] == _BACKEND_READY:
                        session.ended.set()
                else:
                    session.client.write(head + body)
        if not session.is_losing_answers:
            session.client.close()


def _executed(session: _Session, kind: bytes, body: bytes) -> str | None:
    """The statement that this message makes the server execute, if it is such a message."""
    if kind == _QUERY:
        return body.rstrip(b"\0").decode()
    if kind == _PARSE:
        name, text, _ = body.split(b"\0", 2)
        session.statements[name] = text.decode()
    elif kind == _BIND:
        _, name, _ = body.split(b"\0", 2)
        session.bound = session.statements.get(name, "?")
    elif kind == _EXECUTE:
        return session.bound
    elif kind == _COPY_DONE:
        return "the end of a COPY"
    return None


async def dump(connection: "asyncpg.Connection[Any]") -> dict[str, str]:
    """A digest of each table's rows: two that are equal mean that nothing at all has changed."""
    tables = await connection.fetch(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' ORDER BY 1"
    )
    parts = [
        f"SELECT '{name}' AS name, md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) AS digest FROM {name} t"
        for (name,) in tables
    ]
    return {row["name"]: row["digest"] for row in await connection.fetch(" UNION ALL ".join(parts))}
