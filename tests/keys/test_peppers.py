"""Rotating the pepper breaks no key: whatever was stored under any version in force opens what it opened before."""

import base64
import dataclasses
from typing import Any

import httpx
import pytest

from chappe_kernel.wire import control as wire
from chappe_tenants.api_keys.service import digest_all
from chappe_tenants.members.service import Role
from chappe_tenants.peppers import parse_peppers
from tests.control.conftest import serve
from tests.control.world import PEPPERS_TEXT, Cell
from tests.keys.test_owners import make
from tests.keys.world import KeysWorld

ROTATED = f"{PEPPERS_TEXT},3:{base64.b64encode(bytes([3]) * 32).decode()}"
"""The versions of before, and the one under which keys are stored from now on."""


@pytest.fixture
async def before(keys: KeysWorld) -> dict[str, Any]:
    """A secret of each sort, made before the rotation."""
    mia, _ = await keys.member(Role.OWNER)
    inference, management = await make(mia), await make(mia, kind="management")
    token = (await mia.post_json("/playground/token")).json()["token"]
    return {"inference": inference["secret"], "management": management["secret"], "token": token}


async def resolves(cell: Cell, secret: str, peppers: str) -> bool:
    """As a gateway asks that knows these peppers."""
    answer = await cell.call("POST", "/keys/resolve", wire.ResolveKey(digest_all(secret, parse_peppers(peppers))))
    return answer.status_code == 200


async def test_every_secret_of_before_opens_what_it_opened(keys: KeysWorld, before: dict[str, str]) -> None:
    settings = dataclasses.replace(keys.control.settings, key_peppers=ROTATED)
    async with serve(settings, keys.control.clock) as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
        headers = {"authorization": f"Bearer {before['management']}"}
        made = await http.post("/api/v1/keys", json={"name": "after"}, headers=headers)
        assert made.status_code == 201, made.text
        cell = Cell("fr-par", http, keys.control.clock)
        assert [pepper.version for pepper in (await cell.snapshot()).peppers] == [1, 2, 3]
        for name in ("inference", "token"):
            # A gateway that has heard of the rotation, and one that has not yet.
            assert await resolves(cell, before[name], ROTATED), name
            assert await resolves(cell, before[name], PEPPERS_TEXT), name
        after = made.json()["secret"]
        assert await resolves(cell, after, ROTATED)
    ((version,),) = await keys.sql(
        f"SELECT pepper_version FROM api_key WHERE name = 'after' AND prefix = '{after[:8]}'"
    )
    assert version == 3
    # The control plane that was not restarted yet goes on with the secrets of before.
    assert await resolves(keys.paris, before["inference"], PEPPERS_TEXT)


async def test_a_pepper_that_is_taken_away_takes_its_keys_along(keys: KeysWorld, before: dict[str, str]) -> None:
    newest = ROTATED.rpartition(",")[2]
    assert not await resolves(keys.paris, before["inference"], newest)


async def test_a_rotated_key_is_stored_under_the_newest_pepper(keys: KeysWorld, before: dict[str, str]) -> None:
    settings = dataclasses.replace(keys.control.settings, key_peppers=ROTATED)
    async with serve(settings, keys.control.clock) as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
        headers = {"authorization": f"Bearer {before['management']}"}
        (old,) = [
            key
            for key in (await http.get("/api/v1/keys", headers=headers)).json()["items"]
            if key["kind"] == "management"
        ]
        new = (await http.post(f"/api/v1/keys/{old['id']}/rotate", json={}, headers=headers)).json()
    rows = await keys.sql(f"SELECT pepper_version FROM api_key WHERE prefix = '{new['secret'][:8]}'")
    assert (3,) in rows
