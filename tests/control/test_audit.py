"""A tenant reads its own part of the audit log: who did what, page by page, and nothing of anybody else."""

from typing import Any

from tests.control.world import World


async def test_key_and_project_are_in_the_log_with_caller_address_and_request(world: World) -> None:
    (management,) = [key for key in (await world.api("GET", "/keys")).json()["items"] if key["name"] == "management"]
    project = await world.api("POST", "/projects", json={"name": "two"})
    key = await world.api("POST", "/keys", json={"name": "made", "regions": ["FR"]})
    revoked = await world.api("DELETE", f"/keys/{key.json()['id']}")
    last, before, first = (await world.api("GET", "/audit", params={"limit": "3"})).json()["items"]
    for entry, answer in ((first, project), (before, key), (last, revoked)):
        assert entry["actor"] == {"kind": "management_key", "id": management["id"], "address": "127.0.0.1"}
        assert entry["request_id"] == answer.headers["x-request-id"]
    assert (first["action"], first["noun"], first["subject"]) == ("created", "project", project.json()["id"])
    assert first["before"] is None and first["after"] == {"name": "two", "allowed_regions": None, "archived_at": None}
    assert (before["noun"], before["subject"], before["after"]["regions"]) == ("api_key", key.json()["id"], ["FR"])
    assert before["after"]["digest"] == "withheld"
    assert (last["action"], last["subject"], last["before"]) == ("changed", key.json()["id"], {"revoked_at": None})
    assert set(last["after"]) == {"revoked_at"}


async def test_what_the_operator_did_does_not_say_who_of_them(world: World) -> None:
    entries = await everything(world)
    nouns = {"tenant", "quota", "project", "api_key", "budget", "ledger_transaction"}
    assert {entry["noun"] for entry in entries} == nouns
    assert all(entry["actor"] == {"kind": "operator", "id": None, "address": None} for entry in entries)


async def test_repeated_and_refused_calls_leave_no_trace(world: World) -> None:
    key = await world.make_key(world.alice)
    once = {"idempotency-key": "once"}
    for _ in range(2):
        await world.api("DELETE", f"/keys/{key['id']}")
        await world.api("POST", "/projects", json={"name": "two"}, headers=once)
        await world.api("POST", "/keys", json={"name": "k"}, headers=once)
    known = len(await everything(world))
    for path, body in (("/projects", {"name": "two"}), ("/keys", {"name": "k", "regions": ["mars"]})):
        assert (await world.api("POST", path, json=body)).status_code in {400, 409}
    await world.paris.use(world.alice.keys["inference"], await world.paris.lease(world.alice.id))
    entries = await everything(world)
    assert len(entries) == known
    made = [(entry["action"], entry["noun"]) for entry in entries[:4]]
    assert made == [("created", "api_key"), ("created", "project"), ("changed", "api_key"), ("created", "api_key")]


async def test_another_tenants_changes_are_invisible(world: World) -> None:
    before = await everything(world)
    theirs = await world.make_key(world.bob)
    await world.api("POST", "/projects", world.bob, json={"name": "bob's"})
    assert await everything(world) == before
    (newest, *_) = (await world.api("GET", "/audit", world.bob)).json()["items"]
    assert newest["after"]["name"] == "bob's"
    page = await world.api("GET", "/audit", world.bob, params={"limit": "1"})
    # Their cursor is of an entry that is not here.
    assert (await world.api("GET", "/audit", params={"cursor": page.json()["next_cursor"]})).json()["items"] == []
    assert theirs["id"] not in str(await everything(world))


async def test_pages_hold_every_entry_once_while_new_ones_arrive(world: World) -> None:
    expected = [entry["id"] for entry in await everything(world)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await world.api("GET", "/audit", params=params)).json()
        seen += [entry["id"] for entry in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await world.make_key(world.alice)
    assert seen == expected and len(set(seen)) == len(seen)


async def test_a_client_cannot_choose_its_address_or_request_id(world: World) -> None:
    claims = {"x-forwarded-for": "203.0.113.9", "x-request-id": "req_00000000000000000000000000"}
    answer = await world.api("POST", "/projects", json={"name": "two"}, headers=claims)
    assert answer.headers["x-request-id"] != claims["x-request-id"]
    (entry,) = (await world.api("GET", "/audit", params={"limit": "1"})).json()["items"]
    assert (entry["actor"]["address"], entry["request_id"]) == ("127.0.0.1", answer.headers["x-request-id"])


async def everything(world: World) -> list[dict[str, Any]]:
    answer = await world.api("GET", "/audit", params={"limit": "500"})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items
