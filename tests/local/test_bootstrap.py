"""What `make` checks before anything is installed, by the texts that the system would give."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SETUP = Path(__file__).resolve().parents[2] / "infra" / "setup"
ENOUGH = "MemTotal:       16384000 kB\nMemFree: 1 kB\n"


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chappe_bootstrap", SETUP / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_machine_with_enough_of_everything_passes(bootstrap: ModuleType) -> None:
    bootstrap.refuse_machine("x86_64", "linux", ENOUGH, None)
    bootstrap.refuse_machine("x86_64", "linux", ENOUGH, 12 * 10**9)
    bootstrap.refuse_disk(7 * 10**9)
    bootstrap.refuse_python()


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (("aarch64", "linux", ENOUGH, None), "x86-64; this is linux on aarch64"),
        (("x86_64", "darwin", ENOUGH, None), "darwin"),
        (("x86_64", "linux", "MemTotal:        8000000 kB\n", None), "This machine has 8.2 GB"),
        (("x86_64", "linux", ENOUGH, 4 * 10**9), "This machine has 4.0 GB"),
        (("x86_64", "linux", "", None), "0.0 GB"),
    ],
)
def test_machine_that_lacks_something_is_told_what(
    bootstrap: ModuleType, machine: tuple[str, str, str, int | None], words: str
) -> None:
    with pytest.raises(bootstrap.Refused, match=words):
        bootstrap.refuse_machine(*machine)


def test_full_disk_is_named(bootstrap: ModuleType) -> None:
    with pytest.raises(bootstrap.Refused, match=r"6 GB of free disk space.*5\.0 GB"):
        bootstrap.refuse_disk(5 * 10**9)


def test_python_without_venv_is_told_the_package(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(bootstrap.Refused, match="apt-get install python3-venv"):
        bootstrap.refuse_python()


def test_stamp_is_current_only_for_the_same_locks(bootstrap: ModuleType, tmp_path: Path) -> None:
    stamp = tmp_path / "stamp"
    assert not bootstrap.is_installed(stamp, "runtime")
    stamp.write_text(bootstrap.fingerprint("runtime") + "\n")
    assert bootstrap.is_installed(stamp, "runtime")
    assert not bootstrap.is_installed(stamp, "dev")
    stamp.write_text(bootstrap.fingerprint("dev") + "\n")
    assert bootstrap.is_installed(stamp, "runtime")
    stamp.write_text("another lock\n")
    assert not bootstrap.is_installed(stamp, "dev")


def test_downloaded_megabytes_are_what_pip_says(bootstrap: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    progress = bootstrap.Progress("install")
    for line in (
        "Collecting ray==2.60.0\n",
        "  Downloading https://index.example/ray-2.60.0-cp311-cp311-manylinux2014_x86_64.whl (68.5 MB)\n",
        "  Downloading click-8.3.0-py3-none-any.whl.metadata (500 kB)\n",
        "  Using cached numpy-2.4.6.whl (16.0 MB)\n",
    ):
        progress.note(line)
    progress.end()
    assert "install  0 s  69 MB downloaded" in capsys.readouterr().err


def test_failed_step_shows_the_end_of_its_output(bootstrap: ModuleType) -> None:
    script = "print('first'); print('no such package'); raise SystemExit(3)"
    with pytest.raises(bootstrap.Refused, match="install failed:\nfirst\nno such package"):
        bootstrap.run_step("install", [sys.executable, "-c", script])


def test_missing_python_is_named_by_the_shell(tmp_path: Path) -> None:
    command = ["sh", str(SETUP / "bootstrap.sh"), "runtime"]
    environ = {"PATH": "/usr/bin:/bin", "PYTHON": str(tmp_path / "python9")}
    result = subprocess.run(command, env=environ, check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert "Chappe needs Python 3.11 or newer" in result.stderr
    assert "apt-get install python3 python3-venv" in result.stderr
