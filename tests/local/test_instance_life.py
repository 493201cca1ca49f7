"""An instance comes up once, is kept up, and leaves no process behind, however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest

from chappe_local.instance import Instance, current_instance
from chappe_local.processes import marked_processes
from tests.local import tiny_chappe

T = TypeVar("T")
PORT_BASE = 23400


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHAPPE_")}
    environ = {**kept, "CHAPPE_STATE_DIR": str(tmp_path / "state"), "CHAPPE_PORT_BASE": str(PORT_BASE)}
    yield environ
    tiny_chappe.run("down", environ=environ)


@pytest.fixture
def instance(environ: dict[str, str]) -> Instance:
    return current_instance(environ)


def eventually(read: Callable[[], T], accept: Callable[[T], bool], within_s: float = 20) -> T:
    deadline = time.monotonic() + within_s
    while not accept(value := read()):
        assert time.monotonic() < deadline, f"still {value!r} after {within_s} s"
        time.sleep(0.05)
    return value


def status(environ: dict[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(tiny_chappe.run("status", "--json", environ=environ).stdout)
    return answer


def part(environ: dict[str, str], name: str) -> dict[str, Any]:
    return next(entry for entry in status(environ)["parts"] if entry["name"] == name)


def assert_nothing_left(instance: Instance) -> None:
    assert [process.cmdline() for process in marked_processes(instance.mark)] == []
    assert not instance.run_file.exists()
    assert not instance.runtime_dir.exists()


def up(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    result = tiny_chappe.run("up", "--detach", environ=environ)
    assert result.returncode == 0, result.stderr
    return result


def test_up_is_ready_shown_and_ended_without_a_trace(environ: dict[str, str], instance: Instance) -> None:
    shown = up(environ)
    run = json.loads(instance.run_file.read_text())
    assert instance.run_file.stat().st_mode & 0o777 == 0o600
    assert set(run) == {"version", "control", "mail", "payments", "regions", "models", "demo"}
    assert run["version"] == 1
    assert run["control"] == {"url": f"http://127.0.0.1:{PORT_BASE}"}
    assert run["mail"] == {"url": f"http://localhost:{PORT_BASE + 2}"}
    assert run["payments"] == {"stand_in": True, "url": f"http://localhost:{PORT_BASE + 3}"}
    assert run["regions"] == [
        {"name": "fr-par", "jurisdiction": "FR", "gateway_url": f"http://127.0.0.1:{PORT_BASE + 11}"},
        {"name": "de-fra", "jurisdiction": "DE", "gateway_url": f"http://127.0.0.1:{PORT_BASE + 21}"},
    ]
    assert run["models"] == {"chat": "smollm2-135m-instruct", "embeddings": "multilingual-e5-small"}
    demo = run["demo"]
    assert set(demo) == {"tenant", "api_key", "fr_only_api_key", "management_key", "member", "operator"}
    assert str(instance.run_file) in shown.stdout
    secrets = [demo["api_key"], demo["fr_only_api_key"], demo["management_key"], demo["member"]["password"]]
    assert not any(secret in shown.stdout + shown.stderr for secret in secrets)

    answer = status(environ)
    assert answer["phase"] == "ready"
    assert all(entry["answers"] and entry["restarts"] == 0 and entry["memory_mb"] > 0 for entry in answer["parts"])
    assert "run" not in answer
    assert len(marked_processes(instance.mark)) >= 4

    assert tiny_chappe.run("down", environ=environ).returncode == 0
    assert_nothing_left(instance)
    assert status(environ)["phase"] == "down"


def test_second_up_says_so_and_keeps_keys(environ: dict[str, str], instance: Instance) -> None:
    up(environ)
    first = instance.run_file.read_text()
    again = tiny_chappe.run("up", environ=environ)
    assert again.returncode == 0
    assert "running already" in again.stdout
    tiny_chappe.run("down", environ=environ)
    up(environ)
    assert instance.run_file.read_text() == first


def test_dead_part_is_restarted_and_status_says_why(environ: dict[str, str], instance: Instance) -> None:
    up(environ)
    before = part(environ, "web")["pid"]
    psutil.Process(before).kill()
    after = eventually(lambda: part(environ, "web"), lambda entry: entry["state"] == "ready" and entry["pid"] != before)
    assert after["restarts"] == 1
    assert after["reason"] == "ended by SIGKILL"
    # The child that the dead process left in a session of its own is gone: there is one of the new process only.
    children = [process for process in marked_processes(instance.mark, "web") if process.pid != after["pid"]]
    assert len(children) == 1


def test_stopped_part_stays_stopped_until_started(environ: dict[str, str], instance: Instance) -> None:
    up(environ)
    assert tiny_chappe.run("stop", "web", environ=environ).returncode == 0
    assert marked_processes(instance.mark, "web") == []
    assert part(environ, "web")["state"] == "stopped"
    assert tiny_chappe.run("status", environ=environ).returncode == 1
    assert tiny_chappe.run("start", "web", environ=environ).returncode == 0
    assert part(environ, "web")["answers"]
    unknown = tiny_chappe.run("stop", "weeb", environ=environ)
    assert unknown.returncode == 1
    assert "there is no part weeb" in unknown.stderr


def test_the_payment_stand_in_stops_and_starts_with_what_it_knew(environ: dict[str, str], instance: Instance) -> None:
    environ = {**environ, "CHAPPE_TEST_STRIPE": "1"}
    up(environ)
    assert part(environ, "stripe")["answers"]
    secrets = json.loads((instance.state_dir / "secrets.json").read_text())["stripe"]
    url = f"{instance.stripe_api_url}/v1/customers"
    headers = {"authorization": f"Bearer {secrets['api_key']}"}
    made = httpx.post(url, headers=headers, data={"name": "Ada"}).json()
    assert tiny_chappe.run("stop", "stripe", environ=environ).returncode == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, headers=headers)
    assert tiny_chappe.run("start", "stripe", environ=environ).returncode == 0
    assert httpx.get(f"{url}/{made['id']}", headers=headers).json() == made
    private = [path.stat().st_mode & 0o077 for path in (instance.state_dir / "stripe").iterdir()]
    assert private and not any(private)
    assert not any(secret.encode() in path.read_bytes() for path in _files(instance) for secret in secrets.values())
    tiny_chappe.run("down", environ=environ)
    assert_nothing_left(instance)


def _files(instance: Instance) -> list[Path]:
    """What an instance keeps, but for the one file that is for secrets."""
    return [path for path in instance.state_dir.rglob("*") if path.is_file() and path.name != "secrets.json"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ending_the_foreground_command_ends_everything(
    number: signal.Signals, environ: dict[str, str], instance: Instance
) -> None:
    command = [sys.executable, tiny_chappe.__file__, "up"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        eventually(instance.run_file.exists, bool)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "Chappe is down" in output
    assert_nothing_left(instance)


def test_killing_the_foreground_command_ends_everything(environ: dict[str, str], instance: Instance) -> None:
    command = [sys.executable, tiny_chappe.__file__, "up"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as process:
        eventually(instance.run_file.exists, bool)
        process.kill()
    eventually(instance.runtime_dir.exists, lambda there: not there)
    assert_nothing_left(instance)


@pytest.mark.parametrize("command", [["down"], ["up", "--detach"]])
def test_killed_supervisor_leaves_nothing_to_the_next_command(
    command: list[str], environ: dict[str, str], instance: Instance
) -> None:
    up(environ)
    left = marked_processes(instance.mark)
    os.kill(status(environ)["pid"], signal.SIGKILL)
    result = tiny_chappe.run(*command, environ=environ)
    assert result.returncode == 0, result.stderr
    assert "an earlier supervisor left behind" in result.stdout
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in left)
    tiny_chappe.run("down", environ=environ)
    assert_nothing_left(instance)


@contextmanager
def listening(port: int) -> Iterator[None]:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()
        yield


def test_port_in_use_is_named_with_its_holder(environ: dict[str, str], instance: Instance) -> None:
    with listening(PORT_BASE + 11):
        result = tiny_chappe.run("up", environ=environ)
    assert result.returncode == 1
    assert f"port {PORT_BASE + 11} (for fr-par-gateway) is in use by" in result.stderr
    assert f"pid {os.getpid()}" in result.stderr
    assert f"CHAPPE_PORT_BASE={PORT_BASE + 1000}" in result.stderr
    assert marked_processes(instance.mark) == []


def test_failed_start_shows_the_parts_last_words_and_leaves_nothing(
    environ: dict[str, str], instance: Instance
) -> None:
    result = tiny_chappe.run("up", environ={**environ, "CHAPPE_TEST_BROKEN": "1"})
    assert result.returncode == 1
    assert "idle: ended with exit code 1" in result.stderr
    assert "the dog ate the configuration" in result.stderr
    assert_nothing_left(instance)


def test_stale_run_file_is_deleted_at_start(environ: dict[str, str], instance: Instance) -> None:
    instance.state_dir.mkdir()
    instance.run_file.write_text("{}")
    with listening(PORT_BASE):
        assert tiny_chappe.run("up", environ=environ).returncode == 1
    assert not instance.run_file.exists()


def test_wrong_settings_are_refused_in_a_sentence(environ: dict[str, str]) -> None:
    for variable, value, words in (
        ("CHAPPE_PORT_BASE", "http", "CHAPPE_PORT_BASE must be a number"),
        ("CHAPPE_DATABASE_URL", "postgresql+asyncpg://x", "must be set together"),
    ):
        result = tiny_chappe.run("up", environ={**environ, variable: value})
        assert result.returncode == 1
        assert words in result.stderr
        assert "Traceback" not in result.stderr


def test_logs_show_one_part_or_all(environ: dict[str, str]) -> None:
    up(environ)
    assert "idle up" in tiny_chappe.run("logs", "idle", environ=environ).stdout
    everything = tiny_chappe.run("logs", environ=environ).stdout
    assert "idle       | idle up" in everything
    assert "redis      | " in everything
    assert "there are" in tiny_chappe.run("logs", "nobody", environ=environ).stderr
