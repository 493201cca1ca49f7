"""What `make` checks before anything is installed, by the texts that the system would give."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
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


def _made_web(bootstrap: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    web = folder / "web"
    (web / "src" / "lib").mkdir(parents=True)
    for name in ("package.json", "package-lock.json", ".npmrc", "tsconfig.json", "vite.config.ts", "src/lib/a.ts"):
        (web / name).write_text(name)
    monkeypatch.setattr(bootstrap, "WEB", web)
    monkeypatch.setattr(bootstrap, "STATIC", folder / "static")
    return web


@pytest.mark.parametrize("changed", ["package-lock.json", "vite.config.ts", "src/lib/a.ts", "src/lib/new.ts"])
def test_pages_are_built_again_when_a_source_changed(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    web = _made_web(bootstrap, tmp_path, monkeypatch)
    static = bootstrap.STATIC
    assert not bootstrap.is_web_built(static)
    static.mkdir()
    (static / "sources").write_text(bootstrap.web_fingerprint())
    (web / "node_modules").mkdir()
    (web / "node_modules" / "unrelated").touch()
    assert bootstrap.is_web_built(static)
    (web / changed).write_text("changed")
    assert not bootstrap.is_web_built(static)


def test_failed_build_leaves_what_was_built_before(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _made_web(bootstrap, tmp_path, monkeypatch)
    static, steps = bootstrap.STATIC, []
    static.mkdir()
    (static / "old.js").touch()

    def run_step(name: str, command: list[str], *, cwd: Path, environment: dict[str, str]) -> None:
        steps.append(name)
        if command[-1] != "build":
            (cwd / "node_modules").mkdir(exist_ok=True)
        elif len(steps) == 2:
            raise bootstrap.Refused("build the pages failed")
        else:
            Path(environment["CHAPPE_STATIC_DIR"]).mkdir(parents=True)

    monkeypatch.setattr(bootstrap, "run_step", run_step)
    with pytest.raises(bootstrap.Refused):
        bootstrap.build_web()
    assert [path.name for path in static.iterdir()] == ["old.js"]
    bootstrap.build_web()
    assert [path.name for path in static.iterdir()] == ["sources"]
    assert bootstrap.is_web_built(static)
    assert steps == ["install the locked packages of the pages", "build the pages", "build the pages"]


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


@pytest.mark.parametrize(
    ("installed", "user_id", "steps"),
    [
        ({"chromium", "apt-get"}, 0, []),
        ({"google-chrome"}, 1000, []),
        ({"apt-get"}, 1000, []),
        (set(), 0, []),
        ({"apt-get"}, 0, ["look up Debian's packages", "install Chromium"]),
    ],
)
def test_browser_is_installed_by_root_where_none_is(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, installed: set[str], user_id: int, steps: list[str]
) -> None:
    done: list[str] = []
    monkeypatch.setattr(bootstrap, "run_step", lambda name, _command: done.append(name))
    bootstrap.provide_browser(lambda name: name if name in installed else None, user_id)
    assert done == steps


def test_others_are_told_how_to_install_a_browser(bootstrap: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    bootstrap.provide_browser(lambda name: name if name == "apt-get" else None, 1000)
    assert "sudo apt-get install --yes --no-install-recommends chromium" in capsys.readouterr().err


def test_browser_that_cannot_be_installed_stops_nothing(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(name: str, _command: list[str]) -> None:
        raise bootstrap.Refused(f"{name} failed:\nno network")

    monkeypatch.setattr(bootstrap, "run_step", fails)
    bootstrap.provide_browser(lambda name: name if name == "apt-get" else None, 0)
    assert "no network\nThe tests of the pages cannot run" in capsys.readouterr().err


def test_missing_python_is_named_by_the_shell(tmp_path: Path) -> None:
    command = ["sh", str(SETUP / "bootstrap.sh"), "runtime"]
    environ = {"PATH": "/usr/bin:/bin", "PYTHON": str(tmp_path / "python9")}
    result = subprocess.run(command, env=environ, check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert "Chappe needs Python 3.11 or newer" in result.stderr
    assert "apt-get install python3 python3-venv" in result.stderr


@pytest.fixture
def pythons(tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes a program that passes for a Python: it can import what stands in `can`, and as whom it was started it says
    instead of running a script."""

    def make(name: str, can: str) -> Path:
        program = tmp_path / name
        imports = 'case "$2" in *ensurepip*) exit 1;; esac' if can == "nothing" else ":"
        program.write_text(f"""#!/bin/sh\nif [ "$1" = -c ]; then {imports}; exit 0; fi\necho {name}\n""")
        program.chmod(0o755)
        return program

    return make


@pytest.mark.parametrize(
    ("first", "chosen"), [("everything", "first"), ("nothing", "second")], ids=["first", "not-without-venv"]
)
def test_first_python_that_can_make_environments_is_taken(
    pythons: Callable[[str, str], Path], first: str, chosen: str
) -> None:
    candidates = f"{pythons('first', first)} {pythons('second', 'everything')}"
    assert _chosen(candidates) == chosen


def test_python_without_venv_is_asked_when_it_is_the_only_one(pythons: Callable[[str, str], Path]) -> None:
    assert _chosen(str(pythons("only", "nothing"))) == "only"


def _chosen(candidates: str) -> str:
    command = ["sh", str(SETUP / "bootstrap.sh"), "runtime"]
    environ = {"PATH": "/usr/bin:/bin", "PYTHON": candidates}
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout.strip()
