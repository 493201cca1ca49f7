"""A real Valkey for tests: the embedded server, with its access list, on a unix socket."""

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from chappe_local import valkey as embedded

_START_S = 10.0


@dataclass(frozen=True)
class Valkey:
    """A running server. `urls` has one URL per user of the access list; `url` is the control plane's."""

    urls: dict[str, str]
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return self.urls[embedded.CONTROL_USER]


@contextmanager
def start_valkey(directory: Path) -> Iterator[Valkey]:
    """Run a server in `directory`, whose path must be short enough for a socket's, until the block ends."""
    socket_path = directory / "valkey.sock"
    passwords = {user: secrets.token_urlsafe(16) for user in embedded.user_rules()}
    embedded.prepare_data(directory / "valkey", passwords)
    with (directory / "valkey.log").open("wb") as log:
        command = embedded.server_command(directory / "valkey", socket_path)
        process = subprocess.Popen(command, stdout=log, stderr=log)
    urls = {user: embedded.redis_url(socket_path, user, password) for user, password in passwords.items()}
    try:
        await_answer(urls[embedded.CONTROL_USER], process)
        yield Valkey(urls, process)
    finally:
        process.terminate()
        process.wait(10)


def await_answer(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Until the server answers: its socket's file is there before anybody listens at it."""
    deadline = time.monotonic() + _START_S
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError("Valkey did not start")
        time.sleep(0.01)


def _answers(url: str) -> bool:
    with Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False
