"""A key can be renamed, narrowed and widened within its project; nobody undoes another's change unseen."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.control.world import CHAT
from tests.keys.world import OLD, KeysWorld, Program


async def test_a_change_is_in_force_when_it_is_answered(keys: KeysWorld, alice: Program) -> None:
    key = await alice.key()
    before = await keys.paris.resolve(key["secret"])
    changed = await alice.change(f"/keys/{key['id']}", name="narrow", regions=["DE"], models=[CHAT])
    assert (changed["name"], changed["regions"], changed["models"]) == ("narrow", ["DE"], [CHAT])
    after = await keys.paris.resolve(key["secret"])
    assert before is not None and after is not None
    assert (before.regions, before.models) == (("fr-par", "de-fra"), None)
    assert (after.regions, after.models) == (("de-fra",), (CHAT,))
    widened = await alice.change(f"/keys/{key['id']}", regions=None, models=None)
    assert (widened["name"], widened["regions"], widened["models"]) == ("narrow", None, None)


async def test_what_is_not_named_stays(alice: Program) -> None:
    end = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    key = await alice.key(regions=["DE"], models=[CHAT], networks=["192.0.2.0/24"], expires_at=end)
    del key["secret"]
    assert await alice.change(f"/keys/{key['id']}") == key
    assert await alice.change(f"/keys/{key['id']}", name="other") == key | {"name": "other"}


async def test_tag_of_what_was_seen_is_needed_and_must_be_fresh(alice: Program) -> None:
    key = await alice.key()
    path = f"/keys/{key['id']}"
    seen = (await alice.call("GET", path)).headers["etag"]
    assert (await alice.call("PATCH", path, {"name": "x"})).status_code == 428
    answers = await asyncio.gather(*(alice.call("PATCH", path, {"name": str(n)}, if_match=seen) for n in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
    (done,) = (answer for answer in answers if answer.status_code == 200)
    assert done.headers["etag"] == (await alice.call("GET", path)).headers["etag"] != seen


async def test_use_does_not_change_the_tag(keys: KeysWorld, alice: Program) -> None:
    key = await alice.key()
    before = await alice.call("GET", f"/keys/{key['id']}")
    await keys.sql(f"UPDATE api_key SET last_used_at = now(), last_used_region = 'x' WHERE name = '{key['name']}'")
    after = await alice.call("GET", f"/keys/{key['id']}")
    assert after.json()["last_used_at"] is not None
    assert after.headers["etag"] == before.headers["etag"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"regions": ["mars"]}, 400, "region_not_allowed"),
        ({"regions": []}, 400, "invalid_request"),
        ({"models": ["gpt"]}, 400, "model_not_found"),
        ({"networks": ["nowhere"]}, 400, "invalid_network"),
        ({"networks": []}, 400, "invalid_request"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 400, "invalid_expiry"),
        ({"expires_at": "2026-12-01T00:00:00"}, 400, "invalid_request"),
        ({"name": "\u202e"}, 400, "invalid_name"),
        ({"kind": "management"}, 400, "invalid_request"),
        ({"project_id": "prj_x"}, 400, "invalid_request"),
        ({"tenant_id": "ten_x"}, 400, "invalid_request"),
        ({"revoked_at": None}, 400, "invalid_request"),
        ({"owner": None}, 400, "invalid_request"),
    ],
)
async def test_what_cannot_be_changed_changes_nothing(
    alice: Program, body: dict[str, Any], status: int, code: str
) -> None:
    key = await alice.key()
    answer = await alice.call("PATCH", f"/keys/{key['id']}", body, if_match=OLD)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["param"].startswith(next(iter(body)))
    del key["secret"]
    assert await alice.get(f"/keys/{key['id']}") == key


async def test_a_revoked_key_stays_as_it_was(alice: Program) -> None:
    key = await alice.key()
    await alice.call("DELETE", f"/keys/{key['id']}")
    for method, path in (("PATCH", ""), ("POST", "/rotate")):
        answer = await alice.call(method, f"/keys/{key['id']}{path}", {}, if_match=OLD)
        assert (answer.status_code, answer.json()["code"]) == (409, "key_revoked")


async def test_keys_of_one_project_are_listed_alone(alice: Program) -> None:
    project = await alice.make("/projects", name="second")
    key = await alice.key(project_id=project["id"])
    listed = await alice.get(f"/keys?project_id={project['id']}")
    assert [item["id"] for item in listed["items"]] == [key["id"]]
    assert (await alice.call("GET", "/keys?project_id=x")).json()["param"] == "project_id"
