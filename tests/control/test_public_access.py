"""How a management key opens the public API, and what does not. Who may call which route is in `tests/access`."""

from typing import Any

from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.ids import KEY, PROJECT, SERVICE_ACCOUNT, encode_id, new_id
from tests.control.world import CREDENTIALS, World

ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/balance", None),
    ("GET", "/usage/events", None),
    ("GET", "/usage/summary", None),
    ("GET", "/projects", None),
    ("POST", "/projects", {"name": "a project"}),
    ("GET", f"/projects/{encode_id(PROJECT, new_id())}", None),
    ("PATCH", f"/projects/{encode_id(PROJECT, new_id())}", {}),
    ("GET", "/keys", None),
    ("POST", "/keys", {"name": "a key"}),
    ("GET", f"/keys/{encode_id(KEY, new_id())}", None),
    ("PATCH", f"/keys/{encode_id(KEY, new_id())}", {}),
    ("POST", f"/keys/{encode_id(KEY, new_id())}/rotate", {}),
    ("DELETE", f"/keys/{encode_id(KEY, new_id())}", None),
    ("GET", "/service-accounts", None),
    ("POST", "/service-accounts", {"name": "a", "project_id": encode_id(PROJECT, new_id()), "scopes": ["inference"]}),
    ("GET", f"/service-accounts/{encode_id(SERVICE_ACCOUNT, new_id())}", None),
    ("PATCH", f"/service-accounts/{encode_id(SERVICE_ACCOUNT, new_id())}", {}),
    ("DELETE", f"/service-accounts/{encode_id(SERVICE_ACCOUNT, new_id())}", None),
    ("GET", "/audit", None),
    ("GET", "/listings", None),
    ("GET", "/regions", None),
]


async def test_only_an_active_management_key_opens_any_route(world: World) -> None:
    revoked = await world.make_key(world.alice, kind="management")
    assert (await world.api("DELETE", f"/keys/{revoked['id']}")).status_code == 204
    refused: dict[str, tuple[dict[str, str], int, str]] = {
        "no key": ({}, 401, "missing_credentials"),
        "unknown": (_bearer(generate_key(KeyKind.MANAGEMENT)), 401, "invalid_api_key"),
        "revoked": (_bearer(revoked["secret"]), 401, "invalid_api_key"),
        "inference": (world.alice.headers("inference"), 403, "denied"),
        "another header": ({"x-api-key": world.alice.keys["management"]}, 401, "missing_credentials"),
        "another scheme": ({"authorization": f"Basic {world.alice.keys['management']}"}, 401, "missing_credentials"),
        "injection": (_bearer("' OR 1=1 --"), 401, "invalid_api_key"),
        "region": (_bearer(CREDENTIALS["fr-par"]), 401, "invalid_api_key"),
    }
    for method, path, body in ROUTES:
        for caller, (headers, status, code) in refused.items():
            answer = await world.http.request(method, f"/api/v1{path}", headers=headers, json=body)
            assert (answer.status_code, answer.json()["code"]) == (status, code), (method, path, caller)
            assert answer.headers["content-type"] == "application/problem+json"
            assert ("www-authenticate" in answer.headers) == (status == 401)
        own = await world.api(method, path, json=body)
        of_nothing = "_" in path or "project_id" in (body or {})
        assert own.status_code == (404 if of_nothing else {"GET": 200, "POST": 201}[method]), own.text


async def test_two_authorization_headers_open_nothing(world: World) -> None:
    """Otherwise a proxy in front could check one of them and we the other."""
    own = world.alice.headers()["authorization"]
    answer = await world.http.get("/api/v1/balance", headers=[("authorization", own), ("authorization", own)])
    assert answer.status_code == 401


async def test_forwarded_headers_change_nothing(world: World) -> None:
    claims = {
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-host": "evil.example",
        "x-original-url": "/healthz",
        "host": "evil.example",
    }
    assert (await world.http.get("/api/v1/balance", headers=claims)).status_code == 401
    assert (await world.api("GET", "/balance", headers=claims)).status_code == 200


async def test_suspended_tenant_is_denied(world: World, owner_sql: Any) -> None:
    await owner_sql("UPDATE tenant SET state = 'suspended' WHERE id = $1", world.alice.id)
    answer = await world.api("GET", "/balance")
    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_not_active")
    facts = await world.paris.resolve(world.alice.keys["inference"])
    assert facts is not None and not facts.active
    assert (await world.paris.ask(world.alice.id)).status_code == 403


async def test_lists_hold_only_the_own_tenants_things(world: World) -> None:
    await world.make_key(world.bob)
    await world.api("POST", "/projects", world.bob, json={"name": "bob's"})
    await world.paris.use(world.bob.keys["inference"], await world.paris.lease(world.bob.id))
    assert len((await world.api("GET", "/keys")).json()["items"]) == 3
    assert [project["name"] for project in (await world.api("GET", "/projects")).json()["items"]] == ["default"]
    assert (await world.api("GET", "/usage/events")).json()["items"] == []
    assert (await world.api("GET", "/usage/summary")).json()["items"] == []


async def test_another_tenants_key_and_project_do_not_exist(world: World) -> None:
    key = await world.make_key(world.bob)
    (project,) = (await world.api("GET", "/projects", world.bob)).json()["items"]
    assert (await world.api("DELETE", f"/keys/{key['id']}")).status_code == 404
    answer = await world.api("POST", "/keys", json={"name": "mine", "project_id": project["id"]})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    (kept,) = [item for item in (await world.api("GET", "/keys", world.bob)).json()["items"] if item["id"] == key["id"]]
    assert kept["revoked_at"] is None


def _bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}
