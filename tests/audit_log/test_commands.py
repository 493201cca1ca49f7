"""`chappe audit`, as somebody types it."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from chappe_store.audit_log.signing import format_public_keys
from tests.audit_log.conftest import KEYS, KEYS_TEXT, Log
from tests.conftest import DatabaseUrls, PostgresServer


class Commands:
    """Runs them in processes of their own."""

    def __init__(self, urls: DatabaseUrls, folder: Path) -> None:
        self._environ = {
            "PATH": os.environ["PATH"],
            "CHAPPE_DATABASE_URL": urls.app,
            "CHAPPE_AUDIT_KEYS": KEYS_TEXT,
            "CHAPPE_STATE_DIR": str(folder),
        }

    async def __call__(self, *arguments: object, without: str = "") -> tuple[int, str, str]:
        environ = {name: value for name, value in self._environ.items() if name != without}
        command = [str(Path(sys.executable).with_name("chappe")), "audit", *map(str, arguments)]
        process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=PIPE, stderr=PIPE)
        out, err = await asyncio.wait_for(process.communicate(), 90)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def run(database_urls: DatabaseUrls, tmp_path: Path) -> Commands:
    return Commands(database_urls, tmp_path)


async def test_an_intact_log_passes_from_database_and_from_export(signed: Log, run: Commands, tmp_path: Path) -> None:
    code, out, err = await run("verify")
    assert (code, out[:52]) == (0, "intact: 10 entries, 2 checkpoints, signed up to 8 at"), err
    export = tmp_path / "log.jsonl"
    _, exported, _ = await run("export")
    export.write_text(exported)
    assert len(exported.splitlines()) == 12 and "🗼" in exported
    assert (await run("export"))[1] == exported
    code, keys, _ = await run("public-keys")
    assert keys.strip() == format_public_keys(KEYS.public)
    # Somewhere else: no database, no secret key.
    code, offline, err = await run("verify", "--file", export, "--public-keys", keys, without="CHAPPE_DATABASE_URL")
    assert (code, offline) == (0, out), err


async def test_a_log_cut_short_is_found_since_an_exported_checkpoint(
    signed: Log, run: Commands, tmp_path: Path, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    code, out, err = await run("checkpoint")
    assert code == 0, err
    kept = tmp_path / "checkpoint.json"
    kept.write_text(out)
    assert (await run("verify", "--since", kept))[0] == 0
    connection = await postgres.superuser(database_urls.name)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("DELETE FROM audit_entry WHERE sequence > 8")
    code, _, err = await run("verify")
    assert (code, err) == (1, "NOT INTACT: the log ends with entry 8, and its checkpoint has seen 10\n")
    await connection.execute("DELETE FROM audit_checkpoint WHERE sequence > 8")
    await connection.close()
    assert (await run("verify"))[0] == 0
    code, _, err = await run("verify", "--since", kept)
    assert (code, "a checkpoint from elsewhere has seen 10" in err) == (1, True)


async def test_an_edited_export_fails_and_names_the_first_difference(
    signed: Log, run: Commands, tmp_path: Path
) -> None:
    _, exported, _ = await run("export")
    export = tmp_path / "log.jsonl"
    for old, new, message in (
        ('"title": "Q"', '"title": "R"', "entry 4 is not what was written"),
        ('"sequence":7,', '"sequence":70,', "entry 7 is missing"),
        (exported.splitlines()[-2] + "\n", "", "entry 9 is missing"),
    ):
        assert old in exported
        export.write_text(exported.replace(old, new, 1))
        code, _, err = await run("verify", "--file", export)
        assert (code, message in err) == (1, True), err
    export.write_text(exported + "{}\n")
    assert "line 13 is not of an exported audit log" in (await run("verify", "--file", export))[2]


async def test_missing_or_wrong_keys_are_told_plainly(signed: Log, run: Commands, tmp_path: Path) -> None:
    code, _, err = await run("verify", without="CHAPPE_AUDIT_KEYS")
    assert (code, err) == (1, "Error: the environment lacks CHAPPE_AUDIT_KEYS\n")
    empty = tmp_path / "empty"
    empty.touch()
    code, _, err = await run("verify", "--since", empty)
    assert (code, err) == (1, "Error: empty holds no checkpoint\n")


async def test_an_empty_log_passes_and_cannot_be_signed(log: Log, run: Commands) -> None:
    assert (await run("verify"))[:2] == (0, "intact: 0 entries, 0 checkpoints, nothing is signed yet\n")
    code, out, err = await run("checkpoint")
    assert (code, out) == (1, "") and "nothing to sign" in err
