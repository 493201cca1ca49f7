"""A PostgreSQL for a benchmark: the embedded one, as `make up` runs it, with all its durability."""

import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chappe_local import postgres as embedded


@contextmanager
def database_server(directory: Path) -> Iterator[tuple[Path, embedded.Passwords]]:
    """The embedded PostgreSQL as `make up` runs it, without roles or databases yet."""
    directory.chmod(0o755)  # The server's unprivileged user passes through; its own folders are 0700.
    passwords = embedded.Passwords(*(secrets.token_urlsafe(16) for _ in range(4)))
    socket_dir = directory / "socket"
    embedded.prepare_data(directory / "data", socket_dir, passwords.superuser)
    with (directory / "log").open("wb") as log:
        command = [*embedded.server_command(directory / "data", socket_dir), "--max_wal_size=2GB"]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
    try:
        yield socket_dir, passwords
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
