"""The commands, as somebody types them, in processes of their own."""

import asyncio
import json
import os
import pwd
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import httpx
import pytest

from chappe_kernel.api_keys import KeyKind, generate_key, is_well_formed
from chappe_store.session import Database
from tests.conftest import DatabaseUrls
from tests.control.world import AUDIT_KEYS_TEXT, CREDENTIALS, MANIFEST, PEPPERS_TEXT
from tests.gateway.servers import free_port
from tests.valkey_server import Valkey


@pytest.fixture
def environ(database_urls: DatabaseUrls, valkey: Valkey) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "CHAPPE_DATABASE_URL": database_urls.app,
        "CHAPPE_REDIS_URL": valkey.url,
        "CHAPPE_KEY_PEPPERS": PEPPERS_TEXT,
        "CHAPPE_AUDIT_KEYS": AUDIT_KEYS_TEXT,
        "CHAPPE_REGION_CREDENTIALS": json.dumps(CREDENTIALS),
    }


async def test_seeding_twice_gives_one_tenant_one_credit_and_working_keys(
    environ: dict[str, str], tmp_path: Path, database: Database, owner_sql: Any
) -> None:
    catalogue = _write(tmp_path / "catalogue.json", MANIFEST)
    secrets = {name: generate_key(kind) for name, kind in (("i", KeyKind.INFERENCE), ("m", KeyKind.MANAGEMENT))}
    seed = _write(
        tmp_path / "seed.json",
        {
            "tenant": {"name": "Demo", "allowed_regions": ["fr-par", "de-fra"], "requests_per_minute": 6000},
            "project": "default",
            "keys": [
                {"name": "demo", "kind": "inference", "secret": secrets["i"], "regions": None},
                {"name": "management", "kind": "management", "secret": secrets["m"], "regions": None},
            ],
            "member": {"email": "Demo@Example.org", "password": "member-password"},
            "operator": {"email": "ops@example.org", "password": "operator-password"},
        },
    )
    outputs = []
    for _ in range(2):
        assert (await _run(environ, "catalogue", "apply", str(catalogue)))[0] == 0
        code, out, err = await _run(environ, "tenant", "seed", str(seed))
        assert code == 0, err
        assert secrets["i"] not in out + err
        outputs.append(json.loads(out))
    assert outputs[0] == outputs[1] and outputs[0]["tenant"].startswith("ten_")
    counts = {
        table: (await owner_sql(f"SELECT count(*) FROM {table}"))[0][0]
        for table in ("tenant", "project", "api_key", "member", "operator_user", "listing", "price_version")
    }
    assert counts == {
        "tenant": 1,
        "project": 1,
        "api_key": 2,
        "member": 1,
        "operator_user": 1,
        "listing": 1,
        "price_version": 2,
    }
    async with _control(environ) as http:
        answer = await http.get("/api/v1/balance", headers={"authorization": f"Bearer {secrets['m']}"})
        assert answer.json()["available"] == "10.000000000"


async def test_created_tenant_has_two_keys_that_are_shown_once(environ: dict[str, str], tmp_path: Path) -> None:
    await _run(environ, "catalogue", "apply", str(_write(tmp_path / "catalogue.json", MANIFEST)))
    code, out, err = await _run(environ, "tenant", "create", "--name", "Nouvelle Société")
    assert code == 0, err
    made = json.loads(out)
    assert is_well_formed(made["api_key"]) and made["api_key"].startswith("ck_i")
    assert is_well_formed(made["management_key"]) and made["management_key"].startswith("ck_m")


async def test_what_is_done_to_operators_is_in_the_audit_log_with_who_typed_it(
    environ: dict[str, str], owner_sql: Any
) -> None:
    password = "tidal lantern mosaic"
    for arguments in (("create", "ops@example.org"), ("set-role", "ops@example.org", "auditor")):
        assert (await _run(environ, "operator", *arguments, typed=password))[0] == 0
    code, _, err = await _run(environ, "operator", "set-password", "ops@example.org", typed=password + " 42")
    assert code == 0, err
    rows = await owner_sql(
        "SELECT action, actor_kind, actor, address, before::text, after::text FROM audit_entry ORDER BY sequence"
    )
    created, changed, new_password = [tuple(row) for row in rows]
    somebody = ("command", pwd.getpwuid(os.getuid()).pw_name, socket.gethostname())
    assert created[:4] == ("created", *somebody) and '"withheld"' in created[5]
    assert changed == ("changed", *somebody, '{"role": "support"}', '{"role": "auditor"}')
    assert new_password == ("changed", *somebody, *['{"password_hash": "withheld"}'] * 2)


async def test_wrong_input_is_told_in_one_line_without_secrets(environ: dict[str, str], tmp_path: Path) -> None:
    secret = generate_key(KeyKind.INFERENCE)[:-1] + "!"
    seed = {
        "tenant": {"name": "Demo", "allowed_regions": [], "requests_per_minute": 1},
        "project": "default",
        "keys": [{"name": "demo", "kind": "inference", "secret": secret}],
    }
    manifest = MANIFEST | {"listings": [MANIFEST["listings"][0] | {"publisher": "nobody"}]}
    attempts = [
        (environ, ("tenant", "seed", str(_write(tmp_path / "seed.json", seed))), "well-formed"),
        (environ, ("catalogue", "apply", str(_write(tmp_path / "bad.json", manifest))), "unknown publisher"),
        (environ | {"CHAPPE_KEY_PEPPERS": "1:c2VjcmV0"}, ("tenant", "create", "--name", "x"), "at least 32 bytes"),
        ({"PATH": environ["PATH"]}, ("control",), "CHAPPE_DATABASE_URL"),
    ]
    for variables, arguments, expected in attempts:
        code, out, err = await _run(variables, *arguments)
        assert code == 1 and expected in err, (arguments, err)
        assert "Traceback" not in err and secret not in out + err and "c2VjcmV0" not in err


async def test_control_ends_on_sigterm_and_logs_no_secret(environ: dict[str, str]) -> None:
    port = free_port()
    process = await _start(environ | {"CHAPPE_PORT": str(port)}, "control")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        await _healthy(http)
        await http.get("/api/v1/balance", headers={"authorization": f"Bearer {CREDENTIALS['fr-par']}"})
    process.send_signal(signal.SIGTERM)
    _, err = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode in {0, -signal.SIGTERM}
    for line in err.decode().splitlines():
        json.loads(line)
    assert CREDENTIALS["fr-par"] not in err.decode() and PEPPERS_TEXT[2:20] not in err.decode()


def _write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return path


async def _start(environ: dict[str, str], *arguments: str) -> Process:
    chappe = str(Path(sys.executable).parent / "chappe")
    return await asyncio.create_subprocess_exec(
        chappe, *arguments, env=environ, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd="/"
    )


async def _run(environ: dict[str, str], *arguments: str, typed: str = "") -> tuple[int, str, str]:
    process = await _start(environ, *arguments)
    out, err = await asyncio.wait_for(process.communicate(typed.encode()), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class _control:  # noqa: N801 -- used like a function
    """The control plane in a process of its own."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._port = free_port()
        self._environ = environ | {"CHAPPE_PORT": str(self._port)}

    async def __aenter__(self) -> httpx.AsyncClient:
        self._process = await _start(self._environ, "control")
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._port}")
        await _healthy(self._http)
        return self._http

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()
        self._process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self._process.communicate(), 15)


async def _healthy(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if (await http.get("/healthz")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
