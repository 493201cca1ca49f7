"""The top level is fixed, and `platform/` must never become a package: it would shadow the standard library's."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("platform", "tenants", "billing", "infra")


def test_source_roots_are_no_packages() -> None:
    assert [root for root in SOURCE_ROOTS if (ROOT / root / "__init__.py").exists()] == []


def test_standard_library_wins_from_the_root() -> None:
    """Ray puts the driver's folder first on its workers' path; `uuid` imports `platform` at once."""
    code = "import uuid, platform; assert platform.__file__; print(platform.system())"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "Linux"


def test_top_level_holds_only_what_is_agreed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    assert top <= {
        *("pyproject.toml", "platform", "tenants", "billing", "infra", "tests", "docs"),
        *("README.md", "CHANGELOG.md", "LICENSE", "Makefile", ".ci", "requirements", ".gitignore"),
    }


def test_locks_are_hashed_and_name_no_address() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text, lock.name
        pins = [line for line in text.splitlines() if "==" in line]
        assert pins and all(line.endswith("\\") for line in pins), lock.name
