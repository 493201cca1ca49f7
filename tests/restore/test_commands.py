"""`chappe backup` and `chappe restore`, as an operator types them beside an embedded server."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chappe_local import postgres
from tests.restore.conftest import Place
from tests.restore.estate import opened
from tests.restore.test_backups import note, notes


async def chappe(place: Place, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHAPPE_")}
    environ |= {
        "CHAPPE_STATE_DIR": str(place.root / "state"),
        "CHAPPE_BACKUP_DIR": str(place.folder.path),
        "CHAPPE_DATABASE_BACKUP_URL": place.backup_url.url.render_as_string(hide_password=False),
    }
    command = [str(Path(sys.executable).with_name("chappe")), *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, env=environ, cwd="/", capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.timeout(300)
async def test_an_operator_backs_up_verifies_and_restores(place: Place) -> None:
    await note(place, "kept")
    created = await chappe(place, "backup", "create")
    assert created.returncode == 0, created.stderr
    (listed,) = (await chappe(place, "backup", "list", "--json")).stdout.splitlines()
    name = json.loads(listed)["name"]
    verified = await chappe(place, "backup", "verify", "--restore")
    assert verified.returncode == 0, verified.stderr
    assert f"{name} is intact" in verified.stdout
    assert "restored and intact: 0 transactions" in verified.stdout
    await note(place, "lost")

    refused = await chappe(place, "restore")
    assert refused.returncode == 1
    assert "the database runs" in refused.stderr
    place.stop()
    for wrong, said in (
        (("--to", "yesterday"), "is no instant"),
        (("--to", "2026-11-22T14:30:00"), "has no offset"),
        (("--to", "2020-01-01T00:00:00Z"), "no backup was finished by"),
        (("--backup", "20200101T000000.000Z"), "there is no backup"),
    ):
        refused = await chappe(place, "restore", *wrong)
        assert (refused.returncode, said in refused.stderr) == (1, True), refused.stderr
    restored = await chappe(place, "restore")
    assert restored.returncode == 0, restored.stderr
    assert name in restored.stdout
    replaced = postgres.replaced_place(place.data_dir)
    assert (replaced / "PG_VERSION").exists()
    await place.start()
    assert await notes(place) == ["kept"]
    async with opened(place) as database, database.operator():
        pass
    place.stop()
    again = await chappe(place, "restore")
    assert "move it away" in again.stderr
    assert "password" not in created.stdout + verified.stdout + restored.stdout
