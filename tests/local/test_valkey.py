"""The embedded Valkey: no port, nobody without a password, and only engines write what engines witness."""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from chappe_kernel.wire.engine import RECORD_FIELD, RECORD_STREAM
from chappe_local import probes, valkey

PASSWORDS = {"chappe": "c/1", "gateway": "g@2", "engine": "e:3"}
Client = Any


class Server:
    """One server in a folder whose name has a space; it can be stopped and started again."""

    def __init__(self, root: Path) -> None:
        self.data_dir = root / "state dir" / "redis"
        self.socket = root / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, user: str) -> str:
        return valkey.redis_url(self.socket, user, PASSWORDS[user])

    async def start(self) -> None:
        self._launch()
        deadline = time.monotonic() + 10
        while not await probes.redis_answers(self.url("chappe")):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    def _launch(self) -> None:
        valkey.prepare_data(self.data_dir, PASSWORDS)
        command = valkey.server_command(self.data_dir, self.socket)
        self.process = subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(10)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Server]:
    root = Path(tempfile.mkdtemp(prefix="chappe-vk-"))
    running = Server(root)
    await running.start()
    yield running
    running.stop()
    shutil.rmtree(root)


@pytest.fixture
async def clients(server: Server) -> AsyncIterator[dict[str, Client]]:
    opened = {user: redis.asyncio.Redis.from_url(server.url(user)) for user in PASSWORDS}
    yield opened
    for client in opened.values():
        await client.aclose()


async def test_only_engines_write_engine_records(clients: dict[str, Client]) -> None:
    await clients["engine"].xadd(RECORD_STREAM, {RECORD_FIELD: b"{}"}, maxlen=1000)
    gateway = clients["gateway"]
    assert len(await gateway.xread({RECORD_STREAM: "0"})) == 1
    for attempt in (
        gateway.xadd(RECORD_STREAM, {RECORD_FIELD: b"forged"}),
        gateway.delete(RECORD_STREAM),
        gateway.rename(RECORD_STREAM, "elsewhere"),
        gateway.xtrim(RECORD_STREAM, maxlen=0),
        gateway.eval(f"return redis.call('DEL', '{RECORD_STREAM}')", 0),
        gateway.flushdb(),
    ):
        with pytest.raises((NoPermissionError, ResponseError)):
            await attempt
    assert await clients["chappe"].xlen(RECORD_STREAM) >= 1


async def test_gateways_use_every_other_key(clients: dict[str, Client]) -> None:
    gateway = clients["gateway"]
    for key in ("a", "c", "chappe", "chappe:engine-record", f"{RECORD_STREAM}s", "rate:ten_1", "chappe:engine-x"):
        assert await gateway.incrby(key, 1) >= 1
    assert await gateway.eval("return redis.call('INCR', KEYS[1])", 1, "counter") >= 1


async def test_engines_do_nothing_else(clients: dict[str, Client]) -> None:
    engine = clients["engine"]
    for attempt in (engine.get("a"), engine.set("a", 1), engine.xread({RECORD_STREAM: "0"}), engine.publish("a", "b")):
        with pytest.raises(NoPermissionError):
            await attempt


async def test_nobody_enters_without_a_password(server: Server) -> None:
    wrong = redis.asyncio.Redis.from_url(valkey.redis_url(server.socket, "gateway", "wrong"))
    nobody = redis.asyncio.Redis(unix_socket_path=str(server.socket))
    for client in (wrong, nobody):
        # A wrong password may be told as a connection that cannot be made.
        with pytest.raises(RedisError, match=r"invalid username-password|Authentication required|authenticated"):
            await client.get("a")
        await client.aclose()
    assert "g@2" not in (server.data_dir / "users.acl").read_text()
    assert (server.data_dir / "users.acl").stat().st_mode & 0o777 == 0o600


async def test_data_outlives_a_restart(tmp_path: Path) -> None:
    root = Path(tempfile.mkdtemp(prefix="chappe-vk-"))
    server = Server(root)
    for expected in (1, 2):
        await server.start()
        client = redis.asyncio.Redis.from_url(server.url("chappe"))
        assert await client.incr("restarts") == expected
        await client.aclose()
        assert server.stop() == 0
    shutil.rmtree(root)


@given(st.text(alphabet="abcd:", min_size=1, max_size=6), st.text(alphabet="abcd:", min_size=1, max_size=7))
def test_patterns_match_every_key_but_one(excepted: str, key: str) -> None:
    matches = any(_glob(pattern, key) for pattern in valkey.all_keys_but(excepted))
    assert matches == (key != excepted)


def _glob(pattern: str, key: str) -> bool:
    """Valkey's globs, as far as they are used here: `[^c]`, `?` and `*`."""
    if not pattern:
        return not key
    if pattern[0] == "*":
        return any(_glob(pattern[1:], key[start:]) for start in range(len(key) + 1))
    if pattern.startswith("[^"):
        return bool(key) and key[0] != pattern[2] and _glob(pattern[4:], key[1:])
    return bool(key) and pattern[0] in {"?", key[0]} and _glob(pattern[1:], key[1:])
