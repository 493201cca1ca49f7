"""Nobody makes, changes or rotates a key that may do more than they themselves."""

import pytest

from chappe_tenants.members.service import Role
from tests.keys.test_owners import make
from tests.keys.world import KeysWorld


@pytest.mark.parametrize("role", [Role.ADMIN, Role.DEVELOPER, Role.VIEWER])
async def test_management_keys_are_for_those_who_manage(keys: KeysWorld, role: Role) -> None:
    someone, scope = await keys.member(Role.OWNER)
    management, inference = await make(someone, kind="management"), await make(someone)
    await keys.sql(
        "SET session_replication_role = replica",
        f"UPDATE member SET role = '{role}' WHERE tenant_id = '{scope.tenant_id}'",
    )
    project = inference["project_id"]
    calls = {
        "/keys": {"name": "k", "kind": "management", "project_id": project},
        f"/keys/{management['id']}/rotate": {},
        "/service-accounts": {"name": "s", "project_id": project, "scopes": ["management"]},
    }
    heads = role is Role.ADMIN
    for path, body in calls.items():
        answer = await someone.post_json(f"/api/v1{path}", body)
        assert answer.status_code == (201 if heads else 403), (path, answer.text)
        assert heads or answer.json()["code"] == "role_denied"
    makes = role is not Role.VIEWER
    for path, body in (
        ("/keys", {"name": "k", "project_id": project}),
        (f"/keys/{inference['id']}/rotate", {}),
        ("/service-accounts", {"name": "t", "project_id": project, "scopes": ["inference"]}),
    ):
        assert (await someone.post_json(f"/api/v1{path}", body)).status_code == (201 if makes else 403), path
