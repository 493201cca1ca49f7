"""The wheel, installed alone into a clean virtual environment, runs and finds its migrations."""

import importlib.metadata
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE_PACKAGES = ("click", "msgspec", "structlog", "uuid-utils")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = target.glob("*.whl")
    return built


def test_wheel_holds_every_package_and_no_source_root(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert packages == {
        *("chappe_kernel", "chappe_store", "chappe_catalogue", "chappe_gateway", "chappe_control"),
        *("chappe_tenants", "chappe_billing", "chappe_serving", "chappe_local"),
    }


def test_wheel_carries_what_pages_are_made_of_and_not_what_that_was_built_from(wheel: Path) -> None:
    control = {
        name.removeprefix("chappe_control/") for name in zipfile.ZipFile(wheel).namelist() if "chappe_control/" in name
    }
    source = ROOT / "platform" / "chappe_control"
    for folder in ("static", "templates", "locale"):
        expected = {str(path.relative_to(source)) for path in (source / folder).rglob("*") if path.is_file()}
        assert expected, f"{folder} is empty: make web"
        assert expected <= control, expected - control
    assert not [name for name in control if name.startswith(("web/", "node_modules/"))]


@pytest.mark.timeout(300)
def test_wheel_installed_alone_runs_and_finds_its_migrations(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("".join(f"{name}=={importlib.metadata.version(name)}\n" for name in BASE_PACKAGES))
    command = [str(tmp_path / "venv/bin/pip"), "install", "-q", "-c", str(constraints), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    chappe = str(tmp_path / "venv/bin/chappe")
    doctor = subprocess.run([chappe, "doctor"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    newest = max(path.name for path in (ROOT / "platform/chappe_store/migrations/versions").glob("*.py"))
    assert f"newest {newest}" in doctor
    assert "missing: pip install chappe[serving]" in doctor
    lacking = subprocess.run([chappe, "up"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert lacking.returncode == 1
    assert "pip install 'chappe[local]'" in lacking.stderr
