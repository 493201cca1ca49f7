"""What the audit log costs: `python -m tests.bench.audit_bench`.

A PostgreSQL of its own with fsync on. The same change with and without the audit triggers: one writer after the other,
then 50 at once; a member's e-mail address, which takes no other lock that writers share, and so is the log's worst
case. Then 100,000 entries, verified by the same code as `chappe audit verify`.
"""

import asyncio
import base64
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from sqlalchemy import text

from chappe_kernel.ids import new_id
from chappe_local import postgres as embedded
from chappe_store.audit_log.chain import Verifier
from chappe_store.audit_log.origin import ActorKind, Origin
from chappe_store.audit_log.service import make_checkpoint, verify_log
from chappe_store.audit_log.signing import parse_signing_keys
from chappe_store.migrate import migrate
from chappe_store.session import Database

WRITERS = 50
CHANGES = 1000
ENTRIES = 100_000
KEYS = parse_signing_keys(f"1:{base64.b64encode(b'b' * 32).decode()}")
BENCH = Origin(ActorKind.COMMAND, "bench", None, new_id())
PASSWORDS = embedded.Passwords("superuser", "owner", "control", "backup")


@asynccontextmanager
async def server() -> AsyncIterator[Path]:
    root = prepare_root()
    command = embedded.server_command(root / "data", root / "socket")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")  # noqa: ASYNC220
    try:
        await embedded.prepare_roles(root / "socket", PASSWORDS)
        yield root / "socket"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(root, ignore_errors=True)


def prepare_root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="chappe-audit-bench-"))
    root.chmod(0o755)  # The server's unprivileged user passes through; its own folders are 0700.
    embedded.prepare_data(root / "data", root / "socket", PASSWORDS.superuser)
    return root


async def main() -> None:
    async with server() as sockets:
        owner = embedded.database_url(sockets, embedded.OWNER, PASSWORDS.owner)
        app = embedded.database_url(sockets, embedded.LOGIN, PASSWORDS.control)
        await migrate(owner, app)
        superuser = await asyncpg.connect(
            host=str(sockets), user=embedded.SUPERUSER, password=PASSWORDS.superuser, database=embedded.DATABASE
        )
        database = Database(app, pool_size=WRITERS, origin=BENCH)
        await prepare(superuser)
        for _ in range(2):
            for state in ("DISABLE", "ENABLE"):
                await superuser.execute(f"ALTER TABLE operator_user {state} TRIGGER operator_user_audit")
                report(f"audit {state.lower()}d, one writer", await one_by_one(database))
                report(f"audit {state.lower()}d, {WRITERS} writers", await at_once(database))
        await fill(superuser)
        await measure_verification(database)
        await database.close()
        await superuser.close()


async def prepare(superuser: "asyncpg.Connection[asyncpg.Record]") -> None:
    await superuser.execute(
        "INSERT INTO operator_user (id, email, role, password_hash) "
        "SELECT uuidv7(), 'u' || n || '@example.org', 'administrator', '$argon2id$' FROM generate_series(0, $1::int) n",
        WRITERS,
    )


async def change(database: Database, user: int) -> None:
    async with database.operator() as session:
        statement = text("UPDATE operator_user SET email = :new WHERE email LIKE :old")
        await session.execute(statement, {"new": f"u{user}@{new_id()}", "old": f"u{user}@%"})


async def one_by_one(database: Database) -> tuple[list[float], float]:
    return await timed(lambda: change(database, 0), CHANGES // 2)


async def at_once(database: Database) -> tuple[list[float], float]:
    began = time.perf_counter()
    lists = await asyncio.gather(
        *(timed(lambda user=user: change(database, user), CHANGES // WRITERS * 2) for user in range(WRITERS))  # type: ignore[misc]
    )
    return [value for found, _ in lists for value in found], time.perf_counter() - began


async def timed(action: Callable[[], Awaitable[None]], count: int) -> tuple[list[float], float]:
    times = []
    began = time.perf_counter()
    for _ in range(count):
        start = time.perf_counter()
        await action()
        times.append(time.perf_counter() - start)
    return times, time.perf_counter() - began


async def fill(superuser: "asyncpg.Connection[asyncpg.Record]") -> None:
    began = time.perf_counter()
    for _ in range(ENTRIES // 10_000):
        await superuser.execute(
            "INSERT INTO publisher (id, name, title) "
            "SELECT uuidv7(), uuidv7()::text, 'P' FROM generate_series(1, 10000)"
        )
    show("write", ENTRIES, time.perf_counter() - began)


async def measure_verification(database: Database) -> None:
    async with database.operator() as session:
        began = time.perf_counter()
        await make_checkpoint(session, KEYS)
    show("first checkpoint", ENTRIES, time.perf_counter() - began)
    for _ in range(3):
        began = time.perf_counter()
        verifier = Verifier(KEYS.public)
        async with database.audit() as session:
            await verify_log(session, verifier)
        show("verify", verifier.entries, time.perf_counter() - began)


def report(what: str, measured: tuple[list[float], float]) -> None:
    times, took_s = measured
    p50, p99 = statistics.median(times) * 1e3, statistics.quantiles(times, n=100)[98] * 1e3
    sys.stdout.write(f"{what:28} {len(times) / took_s:7.0f}/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms\n")


def show(what: str, entries: int, took_s: float) -> None:
    sys.stdout.write(f"{what:28} {entries} entries in {took_s:.2f} s: {entries / took_s:.0f}/s\n")


if __name__ == "__main__":
    asyncio.run(main())
