"""A tenant narrows what it has, for itself, a project or a key; it never widens, and never touches the contract."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_store.session import TenantScope
from tests.control.world import CHAT
from tests.quotas.shop import Shop


async def test_each_level_narrows_and_the_gateway_holds_them_all(shop: Shop) -> None:
    alice = await shop.tenant()
    project, key = await shop.project_id(alice), await shop.key_id(alice)
    await shop.set_quota(alice, requests_per_minute=500)
    await shop.set_quota(alice, project_id=project, requests_per_minute=50, model=CHAT)
    await shop.set_quota(alice, key_id=key, requests_per_minute=40, tokens_per_minute=9000)
    assert await shop.limits(alice) == [("tenant", None, 500), ("project", CHAT, 50), ("key", None, 40)]
    assert await shop.limits(alice, "fr-only") == [("tenant", None, 500), ("project", CHAT, 50)]
    assert [limit.tokens_per_minute for limit in (await shop.facts(alice)).limits] == [None, None, 9000]


async def test_what_holds_is_shown_with_where_it_comes_from(shop: Shop) -> None:
    alice = await shop.tenant()
    project, key = await shop.project_id(alice), await shop.key_id(alice)
    await shop.set_quota(alice, project_id=project, requests_per_minute=50, model=CHAT)

    async def origin(query: str) -> tuple[int, str, str]:
        limit = (await shop.effective(alice, query))["requests_per_minute"]
        return limit["value"], limit["origin"]["level"], limit["origin"]["name"]

    assert await origin("") == (600, "contract", "")
    assert await origin(f"?project_id={project}") == (600, "contract", "")
    assert await origin(f"?key_id={key}&model={CHAT}") == (50, "project", "default")
    assert (await shop.effective(alice))["tokens_per_minute"] is None


async def test_a_quota_above_the_level_outside_is_refused(shop: Shop) -> None:
    alice = await shop.tenant()
    project, key = await shop.project_id(alice), await shop.key_id(alice)
    await shop.set_quota(alice, project_id=project, requests_per_minute=50)
    for body, param in (
        ({"requests_per_minute": 601}, "requests_per_minute"),
        ({"project_id": project, "model": CHAT, "requests_per_minute": 601}, "requests_per_minute"),
        ({"key_id": key, "requests_per_minute": 51}, "requests_per_minute"),
    ):
        answer = await shop.api(alice, "POST", "/quotas", body)
        assert (answer.status_code, answer.json()["code"]) == (400, "above_inherited_limit"), answer.text
        assert answer.json()["param"] == param


async def test_a_level_that_is_narrowed_later_narrows_what_is_inside(shop: Shop) -> None:
    alice = await shop.tenant()
    key = await shop.key_id(alice)
    await shop.set_quota(alice, key_id=key, requests_per_minute=400)
    await shop.set_quota(alice, requests_per_minute=300)
    found = (await shop.effective(alice, f"?key_id={key}"))["requests_per_minute"]
    assert (found["value"], found["origin"]["level"]) == (300, "tenant")


async def test_change_takes_the_tag_and_keeps_what_is_left_out(shop: Shop) -> None:
    alice = await shop.tenant()
    made = await shop.api(
        alice, "POST", "/quotas", {"requests_per_minute": 500, "monthly_budget": "20", "alert_percents": [50, 80]}
    )
    path, tag = f"/quotas/{made.json()['id']}", made.headers["etag"]
    assert (await shop.api(alice, "PATCH", path, {"requests_per_minute": 400})).status_code == 428
    changed = await shop.api(alice, "PATCH", path, {"requests_per_minute": 400}, if_match=tag)
    assert changed.status_code == 200, changed.text
    assert changed.json() == made.json() | {"requests_per_minute": 400}
    assert (await shop.api(alice, "PATCH", path, {}, if_match=tag)).status_code == 412
    without = await shop.api(alice, "PATCH", path, {"monthly_budget": None}, if_match=changed.headers["etag"])
    assert (without.json()["monthly_budget"], without.json()["alert_percents"]) == (None, [])
    empty = await shop.api(alice, "PATCH", path, {"requests_per_minute": None}, if_match="*")
    assert (empty.status_code, empty.json()["code"]) == (400, "empty_quota")
    assert (await shop.api(alice, "DELETE", path)).status_code == 428
    assert (await shop.api(alice, "DELETE", path, if_match=without.headers["etag"])).status_code == 204
    assert (await shop.api(alice, "GET", path)).status_code == 404
    assert await shop.limits(alice) == [("tenant", None, 600)]


async def test_a_repeat_with_the_same_idempotency_key_sets_once(shop: Shop) -> None:
    alice = await shop.tenant()
    first, again = [
        await shop.api(alice, "POST", "/quotas", {"requests_per_minute": 5}, idempotency_key="abc") for _ in range(2)
    ]
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    second = await shop.api(alice, "POST", "/quotas", {"requests_per_minute": 5})
    assert (second.status_code, second.json()["code"]) == (409, "quota_exists")


async def test_pages_of_the_list_neither_repeat_nor_miss(shop: Shop) -> None:
    alice = await shop.tenant()
    key, project = await shop.key_id(alice), await shop.project_id(alice)
    await shop.set_quota(alice, key_id=key, requests_per_minute=5)
    await shop.set_quota(alice, project_id=project, requests_per_minute=5)
    found = []
    query: str | None = "?limit=1"
    while query is not None:
        page = (await shop.api(alice, "GET", f"/quotas{query}")).json()
        found += [quota["level"] for quota in page["items"]]
        query = None if page["next_cursor"] is None else f"?limit=1&cursor={page['next_cursor']}"
    assert found == ["project", "key", "contract"]


BAD: list[tuple[Any, str | None]] = [
    ({}, None),
    ({"requests_per_minute": 0}, "requests_per_minute"),
    ({"requests_per_minute": "5"}, "requests_per_minute"),
    ({"tokens_per_minute": 10**30}, "tokens_per_minute"),
    ({"monthly_budget": 5}, "monthly_budget"),
    ({"monthly_budget": "-5"}, "monthly_budget"),
    ({"monthly_budget": "0.0000000001"}, "monthly_budget"),
    ({"monthly_budget": "5", "alert_percents": [0]}, "alert_percents[0]"),
    ({"monthly_budget": "5", "alert_percents": [80, 50]}, "alert_percents"),
    ({"requests_per_minute": 5, "alert_percents": [80]}, "alert_percents"),
    ({"requests_per_minute": 5, "model": "no-such-model"}, "model"),
    ({"requests_per_minute": 5, "model": "\u0000"}, "model"),
    ({"requests_per_minute": 5, "level": "contract"}, "level"),
    ({"requests_per_minute": 5, "tenant_id": "x"}, "tenant_id"),
    ({"requests_per_minute": 5, "key_id": "key_x"}, "key_id"),
    ({"requests_per_minute": 5, "project_id": "\u0000"}, "project_id"),
]


async def test_bad_field_is_named_and_nothing_is_set(shop: Shop) -> None:
    alice = await shop.tenant()
    for body, param in BAD:
        answer = await shop.api(alice, "POST", "/quotas", body)
        assert (answer.status_code, answer.json().get("param")) == (400, param), (body, answer.text)
    assert len((await shop.api(alice, "GET", "/quotas")).json()["items"]) == 1


async def test_anothers_quota_project_and_key_are_not_there(shop: Shop) -> None:
    alice, bob = await shop.tenant(), await shop.tenant("Bob")
    quota = (await shop.set_quota(alice, requests_per_minute=5))["id"]
    for method, body in (("GET", None), ("PATCH", {"requests_per_minute": 6}), ("DELETE", None)):
        answer = await shop.api(bob, method, f"/quotas/{quota}", body, if_match="*")
        assert answer.status_code == 404, (method, answer.text)
    for field, other in (("project_id", await shop.project_id(alice)), ("key_id", await shop.key_id(alice))):
        answer = await shop.api(bob, "POST", "/quotas", {"requests_per_minute": 5, field: other})
        assert answer.status_code == 404, answer.text
        assert (await shop.api(bob, "GET", f"/quotas/effective?{field}={other}")).status_code == 404
    assert await shop.limits(bob) == [("tenant", None, 600)]


async def test_a_tenant_cannot_change_its_contract(shop: Shop) -> None:
    alice = await shop.tenant()
    (contract,) = (await shop.api(alice, "GET", "/quotas")).json()["items"]
    for method, body in (("PATCH", {"requests_per_minute": 10_000}), ("DELETE", None)):
        answer = await shop.api(alice, method, f"/quotas/{contract['id']}", body, if_match="*")
        assert (answer.status_code, answer.json()["code"]) == (403, "contract_quota")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE quota SET requests_per_minute = 99999 WHERE level = 'contract'",
        "DELETE FROM quota WHERE level = 'contract'",
        "UPDATE quota SET level = 'contract', project_id = NULL WHERE level = 'project'",
        (
            "INSERT INTO quota (tenant_id, id, level, model, requests_per_minute) "
            "VALUES ('{tenant}', uuidv7(), 'contract', 'm', 99999)"
        ),
    ],
)
async def test_the_database_keeps_tenants_from_the_contract(shop: Shop, statement: str) -> None:
    alice = await shop.tenant()
    await shop.set_quota(alice, project_id=await shop.project_id(alice), requests_per_minute=5)
    try:
        async with shop.database.tenant(TenantScope(alice.id)) as session:
            await session.execute(text(statement.format(tenant=alice.id)))
    except DBAPIError as error:
        assert "row-level security" in str(error.orig)
    quotas = (await shop.api(alice, "GET", "/quotas")).json()["items"]
    assert sorted((quota["level"], quota["requests_per_minute"]) for quota in quotas) == [
        ("contract", 600),
        ("project", 5),
    ]


async def test_a_new_keys_own_limit_is_a_quota_like_any_other(shop: Shop) -> None:
    alice = await shop.tenant()
    made = await shop.api(alice, "POST", "/keys", {"name": "narrow", "requests_per_minute": 7})
    assert (made.status_code, made.json()["requests_per_minute"]) == (201, 7)
    quotas = (await shop.api(alice, "GET", "/quotas")).json()["items"]
    (own,) = [quota for quota in quotas if quota["key_id"] == made.json()["id"]]
    assert (await shop.api(alice, "PATCH", f"/quotas/{own['id']}", {"requests_per_minute": 3}, if_match="*")).is_success
    listed = {
        key["name"]: key["requests_per_minute"] for key in (await shop.api(alice, "GET", "/keys")).json()["items"]
    }
    assert listed["narrow"] == 3


async def test_a_rotated_key_is_limited_as_before(shop: Shop) -> None:
    alice = await shop.tenant()
    key = (await shop.api(alice, "POST", "/keys", {"name": "narrow", "requests_per_minute": 7})).json()["id"]
    await shop.set_quota(alice, key_id=key, model=CHAT, tokens_per_minute=900, monthly_budget="2", alert_percents=[50])
    successor = (await shop.api(alice, "POST", f"/keys/{key}/rotate", {})).json()["id"]
    said: dict[str, list[Any]] = {key: [], successor: []}
    for quota in (await shop.api(alice, "GET", "/quotas")).json()["items"]:
        if quota["key_id"] in said:
            about = quota.pop("key_id")
            said[about].append({name: value for name, value in quota.items() if name not in {"id", "created_at"}})
    assert len(said[key]) == 2
    assert sorted(map(str, said[successor])) == sorted(map(str, said[key]))


async def test_gateways_hear_of_every_change(shop: Shop) -> None:
    alice = await shop.tenant()
    before = await shop.paris.keys_revision()
    quota = await shop.set_quota(alice, requests_per_minute=5)
    assert (after := await shop.paris.keys_revision()) > before
    await shop.api(alice, "PATCH", f"/quotas/{quota['id']}", {"requests_per_minute": 4}, if_match="*")
    assert await shop.paris.keys_revision() > after


async def test_changes_are_in_the_tenants_audit_log(shop: Shop) -> None:
    alice = await shop.tenant()
    quota = await shop.set_quota(alice, requests_per_minute=5)
    entry = (await shop.api(alice, "GET", "/audit?limit=1")).json()["items"][0]
    assert (entry["noun"], entry["subject"], entry["action"]) == ("quota", quota["id"], "created")
    assert entry["after"]["requests_per_minute"] == 5
