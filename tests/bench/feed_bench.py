"""Whether the feed equals the ledger after a million events, with SIGKILL anywhere: `python -m tests.bench.feed_bench`.

A PostgreSQL of its own with fsync on. A process closes batches and writes files; it is killed again and again, every
third time together with the database. A small BSS takes what is there after each kill. At the end what it booked must
be what the ledger says, tenant by tenant, to the nano, and every request must have come once.
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from chappe_kernel.ids import TENANT, encode_id, new_id
from chappe_local import postgres as embedded
from chappe_store.audit_log.origin import ActorKind, Origin
from chappe_store.migrate import migrate
from chappe_store.session import Database
from tests.bench.million import EVENTS, fill, plant
from tests.control.world import PEPPERS
from tests.feed.bss import FakeBss, FileConsumer

PASSWORDS = embedded.Passwords("superuser", "owner", "control", "backup")
BENCH = Origin(ActorKind.COMMAND, "bench", None, new_id())
RECORDS = 10_000
_MAX_LIFE_S = 15.0
_DATABASE_TOO = 3

WORKER = """
import asyncio, sys
from pathlib import Path
from chappe_billing.feed.folder import Folder, deliver
from chappe_billing.feed.service import close_batch
from chappe_store.session import Database

async def main():
    database, folder = Database(sys.argv[1]), Folder(Path(sys.argv[2]))
    while True:
        async with database.operator() as session:
            closed = await close_batch(session, max_records=int(sys.argv[3]))
        await deliver(database, folder)
        if closed is None:
            return
        print("one", flush=True)

asyncio.run(main())
"""


@dataclass
class Server:
    """A PostgreSQL that can be killed and started again."""

    root: Path
    process: "subprocess.Popen[bytes]" = field(init=False)

    def start(self) -> None:
        command = embedded.server_command(self.root / "data", self.root / "socket")
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Once it answers. A killed one leaves shared memory behind, which a new one refuses until it is unused."""
        for _ in range(300):
            if self.process.poll() is not None:
                self.start()
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                return await asyncpg.connect(
                    host=str(self.root / "socket"),
                    user=embedded.SUPERUSER,
                    password=PASSWORDS.superuser,
                    database=embedded.DATABASE,
                )
            await asyncio.sleep(0.1)
        raise TimeoutError("the database does not come back")

    async def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        await (await self.connect()).close()


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    root = Path(tempfile.mkdtemp(prefix="chappe-feed-bench-"))
    root.chmod(0o755)  # The server's unprivileged user passes through; its own folders are 0700.
    embedded.prepare_data(root / "data", root / "socket", PASSWORDS.superuser)
    server = Server(root)
    server.start()
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGINT)
        server.process.wait(30)
        shutil.rmtree(root, ignore_errors=True)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--seed", type=int, default=20261122)
    arguments = parser.parse_args()
    with running_server() as server:
        await embedded.prepare_roles(server.root / "socket", PASSWORDS)
        await migrate(_url(server, embedded.OWNER, PASSWORDS.owner), _url(server, embedded.LOGIN, PASSWORDS.control))
        await prepare(server, arguments.events)
        began = time.monotonic()
        consumer = FileConsumer(server.root / "feed", FakeBss(keeps_records=False))
        kills = await feed_until_done(server, consumer, random.Random(arguments.seed))  # noqa: S311 -- a test's dice
        took_s = time.monotonic() - began
        await compare(server, consumer)
        rate = consumer.bss.booked / took_s
        print(  # noqa: T201 -- a benchmark reports
            f"equal to the nano: {consumer.bss.booked} records in {consumer.bss.sequence} batches, {kills} kills, "
            f"{took_s:.0f} s with the kills and the BSS's own work, {rate:.0f} records/s"
        )


async def prepare(server: Server, events: int) -> None:
    database = Database(_url(server, embedded.LOGIN, PASSWORDS.control), origin=BENCH)
    tenant_id = await plant(database, PEPPERS)
    connection = await server.connect()
    await fill(database, connection, tenant_id, events)
    await connection.close()
    await database.close()


async def feed_until_done(server: Server, consumer: FileConsumer, dice: random.Random) -> int:
    """How often somebody was killed."""
    url, kills = _url(server, embedded.LOGIN, PASSWORDS.control), 0
    while True:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, url, str(consumer.folder), str(RECORDS), stdout=PIPE, stderr=DEVNULL
        )
        if await _ends_before(worker, dice.uniform(0, _MAX_LIFE_S)):
            consumer.run()
            return kills
        kills += 1
        if kills % _DATABASE_TOO == 0:
            await server.kill()
        if worker.returncode is None:
            worker.kill()
        await worker.wait()
        await asyncio.to_thread(consumer.run)


async def _ends_before(worker: asyncio.subprocess.Process, life_s: float) -> bool:
    """Whether all was fed within this time from its first batch on."""
    if worker.stdout is None:
        raise AssertionError("it has a pipe")
    if not await worker.stdout.readline():
        return await worker.wait() == 0
    try:
        # What it writes meanwhile is little, and fits into the pipe.
        return await asyncio.wait_for(worker.wait(), life_s) == 0
    except TimeoutError:
        return False


async def compare(server: Server, consumer: FileConsumer) -> None:
    connection = await server.connect()
    rows = await connection.fetch(
        "SELECT tenant_id, currency, -sum(amount_nano) AS owed FROM ledger_entry WHERE tenant_id IS NOT NULL "
        "GROUP BY 1, 2 HAVING sum(amount_nano) <> 0"
    )
    events = await connection.fetchval("SELECT count(*) FROM usage_event")
    others = await connection.fetchval(
        "SELECT count(*) FROM ledger_transaction WHERE tenant_id IS NOT NULL AND kind <> 'usage'"
    )
    await connection.close()
    wanted = {(encode_id(TENANT, row["tenant_id"]), row["currency"]): int(row["owed"]) for row in rows}
    if consumer.bss.sums() != wanted:
        raise AssertionError(f"the BSS has {consumer.bss.sums()}, the ledger {wanted}")
    if consumer.bss.booked != events + others:
        raise AssertionError(f"the BSS has {consumer.bss.booked} records of {events + others}")


def _url(server: Server, user: str, password: str) -> str:
    return embedded.database_url(server.root / "socket", user, password, embedded.DATABASE)


if __name__ == "__main__":
    asyncio.run(main())
