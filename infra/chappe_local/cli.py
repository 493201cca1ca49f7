"""`chappe up`, `status`, `logs`, `stop`, `start`, `down`: a whole Chappe on this machine."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from chappe_kernel.errors import ChappeError
from chappe_local import daemon, display
from chappe_local import logs as part_logs
from chappe_local.client import Connection, SupervisorGone, connected, connected_to_new
from chappe_local.credentials import load_secrets
from chappe_local.instance import Instance, current_instance, make_folders
from chappe_local.parts import Setting
from chappe_local.ports import busy_ports, explain_busy
from chappe_local.processes import end_instance, end_processes, noted_processes
from chappe_local.replacements import read_replacements
from chappe_local.runfile import remove_run_file

_POLL_S = 0.2
_LOCK_WITHIN_S = 15.0
_NEW_FILES_MASK = 0o077


@click.command()
@click.option("--detach", is_flag=True, help="Return when everything is ready, and leave it running.")
def up(*, detach: bool) -> None:
    """Run a whole Chappe on this machine: two regions, a control plane, and the services that they need.

    In the foreground it stays until Ctrl-C, which ends everything. Data and keys are kept for the next time, at which
    parts that `stop` had stopped are started again.
    """
    os.umask(_NEW_FILES_MASK)
    instance = current_instance(os.environ)
    with connected(instance.control_socket) as connection:
        if connection is not None:
            _show_running(instance, connection)
            return
    supervisor_pid = _start(instance)
    _catch_signals()
    try:
        with connected_to_new(instance.control_socket) as connection:
            if not detach:
                connection.ask("hold")
            _follow_start(instance, connection)
            if detach:
                return
            click.echo("\nCtrl-C ends it.")
            while True:
                connection.ask("status")
                time.sleep(_POLL_S * 5)
    except SupervisorGone:
        _clear_locked(instance)
        raise click.ClickException(f"Chappe went down; {instance.logs_dir / 'supervisor.log'} says why") from None
    except KeyboardInterrupt:
        _go_down(instance)
        os.waitpid(supervisor_pid, 0)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(*, as_json: bool) -> None:
    """What runs here, and how it fares. Exit code 0 when all of it is ready, 1 otherwise."""
    instance = current_instance(os.environ)
    with connected(instance.control_socket) as connection:
        nothing: dict[str, Any] = {"phase": "down", "parts": []}
        answer = nothing if connection is None else _ask(connection, "status", memory=True)
    # `run` holds the demo secrets: run.json is the one place for them.
    answer.pop("run", None)
    if as_json:
        click.echo(json.dumps(answer, indent=1))
    elif answer["phase"] == "down":
        click.echo(f"not running (state in {instance.state_dir}); start it with: chappe up")
    else:
        display.show_status(display.make_console(), answer)
    healthy = answer["phase"] == "ready" and all(part["answers"] for part in answer["parts"])
    sys.exit(0 if healthy else 1)


@click.command()
@click.argument("part", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many of the last lines.")
def logs(*, part: str | None, follow: bool, lines: int) -> None:
    """Show the log of one part, or of all."""
    instance = current_instance(os.environ)
    paths = sorted(instance.logs_dir.glob("*.log"))
    if part is not None:
        paths = [path for path in paths if path.stem == part]
        if not paths:
            known = ", ".join(sorted(path.stem for path in instance.logs_dir.glob("*.log")))
            raise click.ClickException(f"no log of {part}; there are: {known or 'none'}")
    width = max((len(path.stem) for path in paths), default=0)

    def show(path: Path, line: str) -> None:
        click.echo(line if part else f"{path.stem:{width}} | {line}")

    for path in paths:
        for line in part_logs.tail(path, lines):
            show(path, line)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for news in part_logs.follow(paths):
                if news is None:
                    time.sleep(_POLL_S)
                else:
                    show(*news)


@click.command()
@click.argument("part")
def stop(*, part: str) -> None:
    """Stop one part; it stays stopped until `start`, or until the next `up`."""
    _change(part, "stop")


@click.command()
@click.argument("part")
def start(*, part: str) -> None:
    """Start a stopped part, and return when it is ready."""
    _change(part, "start")


@click.command()
def down() -> None:
    """Stop everything; data and keys are kept."""
    _go_down(current_instance(os.environ))


def _start(instance: Instance) -> int:
    """Check, clear what a killed supervisor left, and start a new one. Returns its pid."""
    try:
        make_folders(instance)
        lock = _lock(instance)
        _clear(instance)
        _refuse_busy_ports(instance)
        make_folders(instance)
        replacements = read_replacements(os.environ, instance.cells)
        secrets = load_secrets(instance.state_dir / "secrets.json", [cell.name for cell in instance.cells])
    except (ChappeError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    return daemon.fork_daemon(Setting(instance, secrets, replacements, dict(os.environ)), lock)


def _refuse_busy_ports(instance: Instance) -> None:
    if busy := busy_ports(instance.ports()):
        raise click.ClickException(explain_busy(busy, instance.port_base))


def _lock(instance: Instance) -> int:
    """The lock that says that a supervisor lives. A supervisor that is going down is waited for."""
    descriptor = os.open(_lock_file(instance), os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_WITHIN_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise PermissionError(
                    "another supervisor of this instance is busy: chappe status, or chappe down"
                ) from None
            time.sleep(_POLL_S)
        else:
            return descriptor


def _lock_file(instance: Instance) -> Path:
    return instance.state_dir / "supervisor.lock"


def _clear_locked(instance: Instance) -> None:
    """`_clear`, after the supervisor has let go. One that does not even after seconds is killed."""
    if not _lock_file(instance).exists():
        return
    try:
        lock = _lock(instance)
    except PermissionError:
        end_processes(lambda: noted_processes(instance.supervisor_file), 0.0)
        lock = _lock(instance)
    _clear(instance)
    os.close(lock)


def _clear(instance: Instance) -> None:
    """End what is left of an instance without a supervisor, and forget that it was ready. The lock must be held."""
    remove_run_file(instance)
    ended = end_instance(instance.mark, instance.process_file)
    shutil.rmtree(instance.runtime_dir, ignore_errors=True)
    if ended:
        click.echo(f"ended {ended} processes that an earlier supervisor left behind")


def _catch_signals() -> None:
    """Whatever ends the foreground command ends the instance as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def _follow_start(instance: Instance, connection: Connection) -> None:
    """Show the start until it is done. Exits with 1 when it failed, after everything has ended."""
    console = display.make_console()
    with display.Progress(console) as progress:
        while (answer := connection.ask("status"))["phase"] not in {"ready", "failed"}:
            progress.show(answer)
            time.sleep(_POLL_S)
        progress.show(answer)
    if answer["phase"] == "ready":
        display.show_ready(console, answer, str(instance.run_file))
        return
    display.show_failure(console, answer["failure"], str(instance.logs_dir))
    _wait_until_gone(connection)
    sys.exit(1)


def _show_running(instance: Instance, connection: Connection) -> None:
    click.echo("Chappe is running already.")
    try:
        _follow_start(instance, connection)
    except SupervisorGone:
        raise click.ClickException("it is going down; try again in a moment") from None


def _go_down(instance: Instance) -> None:
    """Ask the supervisor to end everything, and wait for it; without one, end what is left."""
    with connected(instance.control_socket) as connection:
        if connection is not None:
            click.echo("stopping…")
            with contextlib.suppress(SupervisorGone):
                connection.ask("down")
            _wait_until_gone(connection)
    _clear_locked(instance)
    click.echo("Chappe is down; data and keys are kept.")


def _wait_until_gone(connection: Connection) -> None:
    try:
        while True:
            connection.ask("status")
            time.sleep(_POLL_S)
    except SupervisorGone:
        return


def _change(part: str, verb: str) -> None:
    with connected(current_instance(os.environ).control_socket) as connection:
        if connection is None:
            raise click.ClickException("Chappe is not running here: chappe up")
        answer = _ask(connection, verb, part=part)
    if "error" in answer:
        raise click.ClickException(answer["error"])
    click.echo(f"{part} {'stopped' if verb == 'stop' else 'is ready'}")


def _ask(connection: Connection, do: str, **arguments: Any) -> dict[str, Any]:
    try:
        return connection.ask(do, **arguments)
    except SupervisorGone:
        raise click.ClickException("Chappe is going down") from None
