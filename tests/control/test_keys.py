"""API keys: made once, shown once, narrowed only, revoked everywhere."""

import asyncio
from typing import Any

from tests.control.world import CHAT, World


async def test_created_key_resolves_in_its_regions(world: World) -> None:
    key = await world.make_key(world.alice, regions=["DE"], models=[CHAT], requests_per_minute=7)
    facts = await world.paris.resolve(key["secret"])
    assert facts is not None
    assert (facts.regions, facts.models, facts.tenant_id) == (("de-fra",), (CHAT,), world.alice.id)
    assert [limit.requests_per_minute for limit in facts.limits] == [600, 7]
    assert [limit.scope for limit in facts.limits][1] == f"key:{key['id']}"


async def test_revoked_key_resolves_no_more_and_gateways_are_told(world: World) -> None:
    key = await world.make_key(world.alice)
    before = await world.paris.keys_revision()
    assert (await world.api("DELETE", f"/keys/{key['id']}")).status_code == 204
    assert await world.paris.keys_revision() > before
    assert await world.paris.resolve(key["secret"]) is None


async def test_revocation_may_be_repeated_and_keeps_its_time(world: World) -> None:
    key = await world.make_key(world.alice)
    assert (await world.api("DELETE", f"/keys/{key['id']}")).status_code == 204
    first = await _listed(world, key["id"])
    revision = await world.paris.keys_revision()
    assert (await world.api("DELETE", f"/keys/{key['id']}")).status_code == 204
    assert await _listed(world, key["id"]) == first
    assert await world.paris.keys_revision() == revision


async def test_project_narrows_its_keys(world: World) -> None:
    project = (await world.api("POST", "/projects", json={"name": "french", "regions": ["fr-par"]})).json()
    key = await world.make_key(world.alice, project_id=project["id"])
    facts = await world.paris.resolve(key["secret"])
    assert facts is not None and facts.regions == ("fr-par",)
    wider = await world.api("POST", "/keys", json={"name": "k", "project_id": project["id"], "regions": ["de-fra"]})
    assert (wider.status_code, wider.json()["code"], wider.json()["param"]) == (400, "region_not_allowed", "regions")


BAD_BODIES: list[tuple[Any, str]] = [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": "   "}, "name"),
    ({"name": "x" * 101}, "name"),
    ({"name": "a\u0000b"}, "name"),
    ({"name": "a\u202eb"}, "name"),
    ({"name": 5}, "name"),
    ({"name": None}, "name"),
    ({"name": "k", "kind": "admin"}, "kind"),
    ({"name": "k", "tenant_id": "x"}, "tenant_id"),
    ({"name": "k", "revoked_at": None}, "revoked_at"),
    ({"name": "k", "secret": "ck_i"}, "secret"),
    ({"name": "k", "requests_per_minute": "5"}, "requests_per_minute"),
    ({"name": "k", "requests_per_minute": 0}, "requests_per_minute"),
    ({"name": "k", "requests_per_minute": 10**30}, "requests_per_minute"),
    ({"name": "k", "regions": []}, "regions"),
    ({"name": "k", "regions": ["mars"]}, "regions"),
    ({"name": "k", "regions": ["\u0000"]}, "regions"),
    ({"name": "k", "regions": "fr-par"}, "regions"),
    ({"name": "k", "regions": [1]}, "regions[0]"),
    ({"name": "k", "models": ["no-such-model"]}, "models"),
    ({"name": "k", "models": ["\u0000"]}, "models"),
    ({"name": "k", "project_id": "prj_x"}, "project_id"),
    ({"name": "k", "project_id": "\u0000"}, "project_id"),
]


async def test_bad_field_is_named_and_nothing_is_made(world: World) -> None:
    for body, param in BAD_BODIES:
        answer = await world.api("POST", "/keys", json=body)
        assert (answer.status_code, answer.json().get("param")) == (400, param), body
    assert len((await world.api("GET", "/keys")).json()["items"]) == 3


async def test_repeat_with_the_same_idempotency_key_makes_no_second_key(world: World) -> None:
    """The secret is not stored, so the repeat cannot be answered with it: it is told that the call was made."""
    call: dict[str, Any] = {"json": {"name": "once"}, "headers": {"idempotency-key": "abc"}}
    answers = await asyncio.gather(*(world.api("POST", "/keys", **call) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"already_completed"}
    assert [key["name"] for key in (await world.api("GET", "/keys")).json()["items"]].count("once") == 1


async def test_idempotency_key_with_another_body_is_refused(world: World) -> None:
    headers = {"idempotency-key": "abc"}
    assert (await world.api("POST", "/keys", json={"name": "one"}, headers=headers)).status_code == 201
    answer = await world.api("POST", "/keys", json={"name": "two"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert (await world.api("POST", "/keys", world.bob, json={"name": "two"}, headers=headers)).status_code == 201
    assert (await world.api("POST", "/projects", json={"name": "two"}, headers=headers)).status_code == 201


async def test_repeated_project_gets_the_same_answer(world: World) -> None:
    call: dict[str, Any] = {"json": {"name": "once"}, "headers": {"idempotency-key": "abc"}}
    answers = await asyncio.gather(*(world.api("POST", "/projects", **call) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1


async def test_failed_call_may_be_repeated_under_its_idempotency_key(world: World) -> None:
    headers = {"idempotency-key": "abc"}
    body = {"name": "k", "models": ["coming-soon"]}
    assert (await world.api("POST", "/keys", json=body, headers=headers)).status_code == 400
    assert (await world.api("POST", "/keys", json=body | {"models": None}, headers=headers)).status_code == 201


async def test_bad_idempotency_key_is_refused(world: World) -> None:
    for key in ("", "x" * 256):
        answer = await world.api("POST", "/projects", json={"name": "p"}, headers={"idempotency-key": key})
        assert (answer.status_code, answer.json()["param"]) == (400, "Idempotency-Key")


async def test_last_use_is_noted_from_usage(world: World) -> None:
    events = await world.paris.use(world.alice.keys["inference"], await world.paris.lease(world.alice.id))
    used, management = [key for key in (await world.api("GET", "/keys")).json()["items"] if key["last_used_at"]]
    if used["name"] == "management":
        used, management = management, used
    assert (used["name"], used["last_used_region"]) == ("inference", "fr-par")
    assert (management["last_used_region"], management["last_used_network"]) == (None, "127.0.0.0/24")
    assert used["last_used_at"] <= events[0].finished_at.isoformat().replace("+00:00", "Z")
    revision = await world.paris.keys_revision()
    await world.paris.use(world.alice.keys["fr-only"], await world.paris.lease(world.alice.id))
    assert await world.paris.keys_revision() == revision, "use is no change of what a key may do"


async def test_name_in_use_is_a_conflict(world: World) -> None:
    answer = await world.api("POST", "/projects", json={"name": "default"})
    assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (409, "name_taken", "name")


async def _listed(world: World, key_id: str) -> Any:
    (found,) = [key for key in (await world.api("GET", "/keys")).json()["items"] if key["id"] == key_id]
    assert found["revoked_at"] is not None
    return found
