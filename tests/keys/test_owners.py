"""A key is a member's, a service account's or the project's: it ends with its owner, and with nobody else."""

from typing import Any

from chappe_tenants.members.service import Role
from tests.keys.world import OLD, KeysWorld, Program
from tests.pages.browser import Visitor


async def account(program: Program, **fields: Any) -> Any:
    body = {"name": "nightly", "project_id": program.project, "scopes": ["inference"], **fields}
    return await program.make("/service-accounts", **body)


async def test_keys_of_a_service_account_end_with_it(keys: KeysWorld, alice: Program) -> None:
    nightly = await account(alice)
    key, other = await alice.key(service_account_id=nightly["id"]), await alice.key()
    assert key["owner"] == {"kind": "service_account", "id": nightly["id"]}
    successor = await alice.make(f"/keys/{key['id']}/rotate")
    assert successor["owner"] == key["owner"]
    assert (await alice.call("DELETE", f"/service-accounts/{nightly['id']}")).status_code == 204
    assert [await keys.opens(one["secret"]) for one in (key, successor, other)] == [False, False, True]
    assert (await alice.get(f"/keys/{key['id']}"))["revoked_at"] is not None
    assert (await alice.get("/service-accounts"))["items"] == []
    for method in ("GET", "PATCH", "DELETE"):
        assert (await alice.call(method, f"/service-accounts/{nightly['id']}", {}, if_match=OLD)).status_code == 404


async def test_a_scope_that_is_taken_away_closes_its_keys_until_it_is_given_back(
    keys: KeysWorld, alice: Program
) -> None:
    both = await account(alice, scopes=["management", "inference"])
    assert both["scopes"] == ["inference", "management"]
    key = await alice.key(service_account_id=both["id"])
    path = f"/service-accounts/{both['id']}"
    await alice.change(path, scopes=["management"])
    assert not await keys.opens(key["secret"])
    await alice.change(path, scopes=["inference"])
    assert await keys.opens(key["secret"])


async def test_a_service_accounts_key_is_of_its_project_and_of_its_scopes(alice: Program) -> None:
    nightly = await account(alice)
    project = await alice.make("/projects", name="second")
    for body, param in (
        ({"kind": "management"}, "kind"),
        ({"project_id": project["id"]}, "service_account_id"),
        ({"personal": True}, "personal"),
    ):
        answer = await alice.call("POST", "/keys", {"name": "k", "service_account_id": nightly["id"], **body})
        assert (answer.status_code, answer.json()["param"]) == (400, param)


async def test_names_of_service_accounts_are_their_projects(alice: Program) -> None:
    first = await account(alice)
    body = {"name": "nightly", "project_id": alice.project, "scopes": ["inference"]}
    assert (await alice.call("POST", "/service-accounts", body)).json()["code"] == "name_taken"
    other = await account(alice, name="hourly")
    answer = await alice.call("PATCH", f"/service-accounts/{other['id']}", {"name": "nightly"}, if_match=OLD)
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    await alice.call("DELETE", f"/service-accounts/{first['id']}")
    assert (await alice.change(f"/service-accounts/{other['id']}", name="nightly"))["name"] == "nightly"


async def test_personal_keys_end_when_their_member_leaves(keys: KeysWorld) -> None:
    mia, scope = await keys.member(Role.OWNER)
    own, shared = await make(mia, personal=True), await make(mia)
    assert own["owner"]["kind"] == "member"
    assert shared["owner"] is None
    await keys.sql(
        f"DELETE FROM member_session WHERE tenant_id = '{scope.tenant_id}'",
        "ALTER TABLE member DISABLE TRIGGER USER",
        "ALTER TABLE member ENABLE TRIGGER member_revoke_keys",
        f"DELETE FROM member WHERE tenant_id = '{scope.tenant_id}'",
        "ALTER TABLE member ENABLE TRIGGER USER",
    )
    assert [await keys.opens(key["secret"]) for key in (own, shared)] == [False, True]


async def test_nobody_else_gets_the_successor_of_a_personal_key(keys: KeysWorld) -> None:
    mia, _ = await keys.member(Role.OWNER)
    own, manager = await make(mia, personal=True), await make(mia, kind="management")
    answer = await mia.request(
        "POST",
        f"/api/v1/keys/{own['id']}/rotate",
        headers={"authorization": f"Bearer {manager['secret']}"},
        json={},
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "personal_key")
    answer = await mia.post_json(f"/api/v1/keys/{own['id']}/rotate", {})
    assert answer.status_code == 201
    assert answer.json()["owner"] == own["owner"]


async def test_a_program_has_no_personal_keys(alice: Program) -> None:
    answer = await alice.call("POST", "/keys", {"name": "k", "personal": True})
    assert (answer.status_code, answer.json()["param"]) == (400, "personal")


async def make(visitor: Visitor, **fields: Any) -> Any:
    projects = (await visitor.get("/api/v1/projects")).json()["items"]
    answer = await visitor.post_json("/api/v1/keys", {"name": "made", "project_id": projects[0]["id"], **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()
