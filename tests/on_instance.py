"""`python -m tests.on_instance`: one instance, and all suites that look at it. `make test` runs this last.

This process owns the instance, from before the first look until after the last. A worker that dies takes nothing down,
and whoever takes its place finds the instance as it was.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.instance import RUNNING_VARIABLE, running_instance

_ROOT = Path(__file__).parents[1]
_CONSOLE = "tests/browser/test_console.py"
# Two browsers at once: half of the time a page waits for somebody else than the processor.
_TWO = ("-n", "2", "--dist", "loadgroup", "-m", "not alone")
ROUNDS: tuple[tuple[str, ...], ...] = (
    # Whoever signs up here has an organisation that nobody else looks at, and changes nothing that others share.
    (*_TWO, "tests/browser", f"--ignore={_CONSOLE}"),
    # The console shows what all of them do, as they do it: only others who read walk through it at the same time.
    (*_TWO, _CONSOLE),
    # What measures, and at the very end the journey, which kills parts and takes the instance down and up.
    ("-m", "alone", "tests/browser", "tests/journey"),
)


def main() -> int:
    """The worst exit code: what one round finds keeps no other from being run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or it would leave the instance running
    folder = Path(tempfile.mkdtemp(prefix="chappe-tests-"))
    with running_instance(folder) as instance:
        environ = {**instance.environ, RUNNING_VARIABLE: str(instance.state_dir)}
        worst = max(_run(arguments, environ) for arguments in ROUNDS)
    if worst == 0:
        shutil.rmtree(folder)
    else:
        sys.stderr.write(f"The instance's logs are in {folder}/logs.\n")
    return worst


def _run(arguments: tuple[str, ...], environ: Mapping[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments, "--durations", "10"]
    return subprocess.run(command, env=dict(environ), cwd=_ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
