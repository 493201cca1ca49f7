"""How the commands speak to the supervisor."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_APPEARS_WITHIN_S = 15.0
_POLL_S = 0.05


class SupervisorGone(Exception):
    """The connection ended: the instance is down."""


class Connection:
    """One conversation with the supervisor. A call blocks until the answer is there."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._lines = stream.makefile("rb")

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Raises `SupervisorGone` when it is not there any more."""
        try:
            self._stream.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            line = self._lines.readline()
        except OSError as error:
            raise SupervisorGone from error
        if not line:
            raise SupervisorGone
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._lines.close()
        self._stream.close()


@contextmanager
def connected(control_socket: Path, *, appears_within_s: float = 0.0) -> Iterator[Connection | None]:
    """A conversation with the supervisor, or None when none listens (after waiting for it to appear)."""
    connection = _connect(control_socket, appears_within_s)
    try:
        yield connection
    finally:
        if connection is not None:
            connection.close()


@contextmanager
def connected_to_new(control_socket: Path) -> Iterator[Connection]:
    """A conversation with a supervisor that was started just now. Raises `SupervisorGone` if it never listens."""
    with connected(control_socket, appears_within_s=_APPEARS_WITHIN_S) as connection:
        if connection is None:
            raise SupervisorGone
        yield connection


def _connect(control_socket: Path, appears_within_s: float) -> Connection | None:
    deadline = time.monotonic() + appears_within_s
    while True:
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.connect(str(control_socket))
        except (FileNotFoundError, ConnectionRefusedError):
            stream.close()
            if time.monotonic() >= deadline:
                return None
            time.sleep(_POLL_S)
        else:
            return Connection(stream)
