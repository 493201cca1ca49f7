"""Whoever has a key's text can end it, and learns nothing by trying."""

import httpx
import pytest

from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_tenants.members.service import Role
from tests.keys.world import KeysWorld, Program


async def report(keys: KeysWorld, text: str) -> httpx.Response:
    return await keys.control.http.post("/api/v1/leaked-keys", json={"key": text})


async def test_a_reported_key_is_revoked_and_its_tenant_is_told(keys: KeysWorld, alice: Program) -> None:
    leaked, other = await alice.key(name="leaked"), await alice.key()
    assert (await report(keys, f" {leaked['secret']}\n")).status_code == 202
    assert [await keys.opens(key["secret"]) for key in (leaked, other)] == [False, True]
    shown = await alice.get(f"/keys/{leaked['id']}")
    assert (shown["revoked_for"], shown["revoked_at"] is not None) == ("leaked", True)
    entry = (await alice.get("/audit?limit=1"))["items"][0]
    assert (entry["noun"], entry["subject"], entry["action"]) == ("api_key", leaked["id"], "changed")
    assert entry["actor"] == {"kind": "leak_report", "id": None, "address": None}
    assert entry["after"]["revoked_for"] == "leaked"
    ((address,),) = await keys.sql("SELECT DISTINCT address FROM audit_entry WHERE actor_kind = 'leak_report'")
    assert address == "127.0.0.1"


@pytest.mark.parametrize("kind", ["inference", "management"])
async def test_every_kind_of_key_can_be_reported(keys: KeysWorld, alice: Program, kind: str) -> None:
    key = await alice.key(kind=kind)
    await report(keys, key["secret"])
    assert (await alice.get(f"/keys/{key['id']}"))["revoked_for"] == "leaked"


async def test_the_answer_is_always_the_same(keys: KeysWorld, alice: Program) -> None:
    real = (await alice.key())["secret"]
    unknown = generate_key(KeyKind.INFERENCE)
    answers = [await report(keys, text) for text in (real, real, unknown, "", "' OR 1=1 --", real[:-1] + "x", "ü")]
    assert len({(answer.status_code, answer.content, frozenset(answer.headers)) for answer in answers}) == 1


async def test_a_key_that_could_open_again_is_revoked_too(keys: KeysWorld, alice: Program) -> None:
    project = await alice.make("/projects", name="old")
    key = await alice.key(project_id=project["id"])
    await alice.change(f"/projects/{project['id']}", archived=True)
    await report(keys, key["secret"])
    await alice.change(f"/projects/{project['id']}", archived=False)
    assert not await keys.opens(key["secret"])


async def test_a_browser_token_ends_alone(keys: KeysWorld) -> None:
    mia, _ = await keys.member(Role.OWNER)
    tokens = [(await mia.post_json("/playground/token")).json()["token"] for _ in range(2)]
    await report(keys, tokens[0])
    assert [await keys.opens(token) for token in tokens] == [False, True]


async def test_reports_are_throttled_and_other_fields_refused(keys: KeysWorld) -> None:
    http = keys.control.http
    answer = await http.post("/api/v1/leaked-keys", json={"key": "x", "tenant_id": "y"})
    assert (answer.status_code, answer.json()["param"]) == (400, "tenant_id")
    keys.control.clock.advance(61)
    limit = keys.control.settings.leak_reports_per_minute
    answers = [await report(keys, "x") for _ in range(limit + 1)]
    keys.control.clock.advance(61)
    assert [answer.status_code for answer in answers] == [202] * limit + [429]
    assert "retry-after" in answers[-1].headers
    assert answers[-1].headers["content-type"] == "application/problem+json"
