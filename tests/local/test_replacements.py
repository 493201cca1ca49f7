"""A URL in the environment takes the place of an embedded service, and nothing of it is started."""

import asyncio
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from chappe_control.settings import ControlSettings, WorkerSettings
from chappe_kernel.errors import Invalid
from chappe_kernel.settings import load_settings
from chappe_local.credentials import load_secrets
from chappe_local.instance import current_instance
from chappe_local.parts import Part, Setting, all_parts
from chappe_local.replacements import read_replacements

DATABASE = {
    "CHAPPE_DATABASE_URL": "postgresql+asyncpg://c@db/x",
    "CHAPPE_DATABASE_OWNER_URL": "postgresql+asyncpg://o@db/x",
}


def parts(tmp_path: Path, environ: dict[str, str]) -> dict[str, Part]:
    instance = current_instance({"CHAPPE_STATE_DIR": str(tmp_path), **environ})
    secrets = load_secrets(tmp_path / "secrets.json", [cell.name for cell in instance.cells])
    setting = Setting(instance, secrets, read_replacements(environ, instance.cells), environ)
    return {part.name: part for part in all_parts(setting)}


def test_without_urls_everything_is_embedded(tmp_path: Path) -> None:
    found = parts(tmp_path, {"CHAPPE_GRANT_BLOCK_NANO": "7", "SECRET_OF_THE_CALLER": "x"})
    regional = ("redis", "serving", "reconciler", "gateway")
    assert set(found) == {
        *("postgres", "redis", "mail", "vies", "stripe", "control", "worker"),
        *(f"{region}-{kind}" for region in ("fr-par", "de-fra") for kind in regional),
    }
    assert found["fr-par-gateway"].environment["CHAPPE_GRANT_BLOCK_NANO"] == "7"
    assert not any("SECRET_OF_THE_CALLER" in part.environment for part in found.values())
    # A stolen gateway holds no database credential, and cannot write what engines witness.
    assert not any("DATABASE" in name for name in found["fr-par-gateway"].environment)
    assert "//gateway:" in found["fr-par-gateway"].environment["CHAPPE_REDIS_URL"]
    assert "//engine:" in found["fr-par-serving"].environment["CHAPPE_ENGINE_REDIS_URL"]


def test_urls_replace_what_they_name(tmp_path: Path) -> None:
    environ = {**DATABASE, "CHAPPE_REDIS_URL": "redis://r/0", "CHAPPE_FR_PAR_REDIS_URL": "redis://f/0"}
    found = parts(tmp_path, environ)
    assert not {"postgres", "redis", "fr-par-redis"} & set(found)
    assert found["control"].environment["CHAPPE_DATABASE_URL"] == DATABASE["CHAPPE_DATABASE_URL"]
    assert found["control"].environment["CHAPPE_REDIS_URL"] == "redis://r/0"
    assert found["fr-par-gateway"].environment["CHAPPE_REDIS_URL"] == "redis://f/0"
    assert found["de-fra-gateway"].environment["CHAPPE_REDIS_URL"].startswith("unix://")
    assert "redis" not in found["control"].after


def test_a_mail_server_takes_the_catchers_place(tmp_path: Path) -> None:
    own = parts(tmp_path, {})
    assert own["control"].environment["CHAPPE_SMTP_URL"] == "smtp://127.0.0.1:8401"
    assert own["mail"].command()[-2:] == ["8401", "8402"]
    found = parts(tmp_path, {"CHAPPE_SMTP_URL": "smtps://mail.example", "CHAPPE_MAIL_FROM": "a@b.example"})
    assert "mail" not in found
    environment = found["control"].environment
    assert (environment["CHAPPE_SMTP_URL"], environment["CHAPPE_MAIL_FROM"]) == ("smtps://mail.example", "a@b.example")
    with pytest.raises(Invalid, match="must be set together"):
        parts(tmp_path, {"CHAPPE_SMTP_URL": "smtps://mail.example"})


def test_the_stand_in_and_the_control_plane_know_the_same_secrets(tmp_path: Path) -> None:
    found = parts(tmp_path, {})
    control, stripe = found["control"].environment, found["stripe"].environment
    assert control["CHAPPE_STRIPE_API_BASE"] == "http://127.0.0.1:8403"
    assert control["CHAPPE_STRIPE_API_KEY"] == stripe["STAND_IN_API_KEY"]
    (endpoint,) = json.loads(stripe["STAND_IN_WEBHOOKS"])
    assert control["CHAPPE_STRIPE_WEBHOOK_SECRET"] == endpoint["secret"]
    assert endpoint["url"] == "http://127.0.0.1:8400/webhooks/stripe"
    assert stripe["STAND_IN_SWITCH_TOKEN"] not in control.values()
    others = [part for name, part in found.items() if name not in ("control", "worker", "stripe")]
    assert not any("STRIPE" in name or "STAND_IN" in name for part in others for name in part.environment)


def test_a_stripe_key_takes_the_stand_ins_place(tmp_path: Path) -> None:
    found = parts(tmp_path, {"STRIPE_API_KEY": "sk_test_own"})
    assert "stripe" not in found
    told = {name: value for name, value in found["control"].environment.items() if "STRIPE" in name}
    assert told == {"CHAPPE_STRIPE_API_KEY": "sk_test_own"}
    own = parts(tmp_path, {"STRIPE_API_KEY": "sk_test_own", "STRIPE_WEBHOOK_SECRET": "whsec_own"})
    assert own["control"].environment["CHAPPE_STRIPE_WEBHOOK_SECRET"] == "whsec_own"
    with pytest.raises(Invalid, match="STRIPE_API_KEY"):
        parts(tmp_path, {"STRIPE_WEBHOOK_SECRET": "whsec_own"})


def test_work_is_a_part_beside_the_control_plane_which_cannot_sign_the_audit_log(tmp_path: Path) -> None:
    found = parts(tmp_path, {})
    control = load_settings(ControlSettings, found["control"].environment)
    worker = load_settings(WorkerSettings, found["worker"].environment)
    assert not control.works
    assert not control.audit_keys and worker.audit_keys
    # Letters, calls and links are the same, whoever sends them.
    for name in ("database_url", "key_peppers", "smtp_url", "mail_from", "portal_url", "stripe_api_key"):
        assert getattr(control, name) == getattr(worker, name), name
    assert worker.feed_folder and worker.vies_url == "http://127.0.0.1:8404"
    assert "CHAPPE_REDIS_URL" not in found["worker"].environment


async def answers(part: Part) -> bool:
    return await part.ready()


def test_a_worker_is_ready_when_it_has_seen_the_database_and_no_longer_when_it_stands_still(tmp_path: Path) -> None:
    worker = parts(tmp_path, {})["worker"]
    heartbeat = Path(worker.environment["CHAPPE_HEARTBEAT_FILE"])
    heartbeat.parent.mkdir()
    try:
        heartbeat.touch()
        assert asyncio.run(answers(worker))
        worker.prepare()
        assert not asyncio.run(answers(worker)), "the heartbeat of its predecessor is none of its own"
        heartbeat.touch()
        an_old_one = time.time() - 60
        os.utime(heartbeat, (an_old_one, an_old_one))
        assert not asyncio.run(answers(worker))
    finally:
        shutil.rmtree(heartbeat.parent)


def test_half_a_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="must be set together"):
        parts(tmp_path, {"CHAPPE_DATABASE_URL": DATABASE["CHAPPE_DATABASE_URL"]})


def test_ports_stay_inside_the_instances_thousand(tmp_path: Path) -> None:
    ports = current_instance({"CHAPPE_STATE_DIR": str(tmp_path), "CHAPPE_PORT_BASE": "9400"}).ports()
    assert min(ports) == 9400
    assert max(ports) < 10400
    for wrong in ("80", "65000", "http", "²"):
        with pytest.raises(Invalid, match="CHAPPE_PORT_BASE"):
            current_instance({"CHAPPE_PORT_BASE": wrong})
