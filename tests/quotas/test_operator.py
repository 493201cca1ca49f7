"""The operator sells plans, agrees contracts within them, and raises for a time with a reason."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.control.world import CHAT, Tenant
from tests.quotas.shop import Shop, show


async def in_a_plan(shop: Shop, name: str, *quotas: dict[str, Any]) -> Tenant:
    """A tenant that has a new plan, and nothing in its contract."""
    made = await shop.operate("POST", "/plans", {"name": name, "title": name.title(), "quotas": list(quotas)})
    assert made.status_code == 201, made.text
    tenant = await shop.tenant()
    await shop.sql("DELETE FROM quota WHERE tenant_id = $1", tenant.id)
    await shop.sql("UPDATE tenant SET plan = $1 WHERE id = $2", name, tenant.id)
    return tenant


def soon(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


async def test_a_plan_holds_for_every_tenant_that_has_it_until_it_is_changed(shop: Shop) -> None:
    tenant = await in_a_plan(shop, "bronze", {"requests_per_minute": 60}, {"model": CHAT, "requests_per_minute": 6})
    assert await shop.limits(tenant) == [("tenant", None, 60), ("tenant", CHAT, 6)]
    found = (await shop.effective(tenant, f"?model={CHAT}"))["requests_per_minute"]
    assert (found["value"], found["origin"]["level"], found["origin"]["name"]) == (6, "plan", "Bronze")
    read = await shop.operate("GET", "/plans/bronze")
    body = {"title": "Bronze", "quotas": [{"requests_per_minute": 90}]}
    assert (await shop.operate("PUT", "/plans/bronze", body)).status_code == 428
    assert (await shop.operate("PUT", "/plans/bronze", body, if_match=read.headers["etag"])).status_code == 200
    assert await shop.limits(tenant) == [("tenant", None, 90)]
    gone = await shop.operate("DELETE", "/plans/bronze", if_match="*")
    assert (gone.status_code, gone.json()["code"]) == (409, "plan_in_use")


async def test_a_plan_without_tenants_can_go(shop: Shop) -> None:
    body = {"name": "copper", "title": "Copper"}
    assert (await shop.operate("POST", "/plans", body)).status_code == 201
    assert (await shop.operate("POST", "/plans", body)).json()["code"] == "name_taken"
    assert "copper" in [plan["name"] for plan in (await shop.operate("GET", "/plans")).json()["items"]]
    assert (await shop.operate("DELETE", "/plans/copper", if_match="*")).status_code == 204
    for name in ("copper", "%00", "%ff"):
        assert (await shop.operate("GET", f"/plans/{name}")).status_code == 404


async def test_a_plan_that_names_a_model_twice_or_none_on_sale_is_refused(shop: Shop) -> None:
    twice = [{"model": CHAT, "requests_per_minute": 1}, {"model": CHAT, "requests_per_minute": 2}]
    for quotas in (twice, [{"model": "no-such-model", "requests_per_minute": 1}], [{"model": CHAT}]):
        answer = await shop.operate("POST", "/plans", {"name": "tin", "title": "Tin", "quotas": quotas})
        assert answer.status_code == 400, answer.text
    assert (await shop.operate("GET", "/plans/tin")).status_code == 404


async def test_a_contract_narrows_its_plan_and_never_widens_it(shop: Shop) -> None:
    tenant = await in_a_plan(shop, "silver", {"requests_per_minute": 60})
    path = f"/tenants/{show(tenant)}/quotas"
    wider = await shop.operate("POST", path, {"requests_per_minute": 61})
    assert (wider.status_code, wider.json()["code"]) == (400, "above_inherited_limit")
    made = await shop.operate("POST", path, {"requests_per_minute": 30, "monthly_budget": "100"})
    assert (made.status_code, made.json()["level"]) == (201, "contract")
    assert await shop.limits(tenant) == [("tenant", None, 30)]
    changed = await shop.operate("PATCH", f"{path}/{made.json()['id']}", {"requests_per_minute": 40}, if_match="*")
    assert (changed.status_code, changed.json()["monthly_budget"]) == (200, "100.000000000")
    assert (await shop.operate("DELETE", f"{path}/{made.json()['id']}", if_match="*")).status_code == 204
    assert await shop.limits(tenant) == [("tenant", None, 60)]


async def test_what_a_tenant_has_set_is_not_the_operators_to_change(shop: Shop) -> None:
    tenant = await shop.tenant()
    own = await shop.set_quota(tenant, requests_per_minute=5)
    path = f"/tenants/{show(tenant)}/quotas/{own['id']}"
    assert (await shop.operate("PATCH", path, {"requests_per_minute": 50}, if_match="*")).status_code == 404
    assert (await shop.operate("DELETE", path, if_match="*")).status_code == 404


async def test_a_raise_lifts_plan_and_contract_and_ends_by_itself(shop: Shop) -> None:
    tenant = await in_a_plan(shop, "gold", {"requests_per_minute": 60})
    path = f"/tenants/{show(tenant)}/quota-raises"
    made = await shop.operate(
        "POST", path, {"requests_per_minute": 600, "reason": "launch on TV", "ends_at": soon(hours=1)}
    )
    assert made.status_code == 201, made.text
    assert await shop.limits(tenant) == [("tenant", None, 600)]
    origin = (await shop.effective(tenant))["requests_per_minute"]["origin"]
    assert origin["level"] == "raise"
    assert origin["ends_at"] == made.json()["ends_at"]
    holds_for_s = (await shop.facts(tenant)).quotas_hold_for_s
    assert holds_for_s is not None
    assert 3500 < holds_for_s <= 3600
    await shop.sql(
        "UPDATE quota_raise SET created_at = now() - interval '2 s', ends_at = now() - interval '1 s' "
        "WHERE tenant_id = $1",
        tenant.id,
    )
    assert await shop.limits(tenant) == [("tenant", None, 60)]
    assert (await shop.facts(tenant)).quotas_hold_for_s is None


async def test_a_raise_can_be_ended_before_its_time(shop: Shop) -> None:
    tenant = await in_a_plan(shop, "platinum", {"requests_per_minute": 60})
    path = f"/tenants/{show(tenant)}/quota-raises"
    body = {"requests_per_minute": 600, "reason": "launch", "ends_at": soon(days=1)}
    made = (await shop.operate("POST", path, body)).json()
    for _ in range(2):
        assert (await shop.operate("DELETE", f"{path}/{made['id']}")).status_code == 204
    assert await shop.limits(tenant) == [("tenant", None, 60)]
    (listed,) = (await shop.operate("GET", path)).json()["items"]
    assert (listed["reason"], listed["id"]) == ("launch", made["id"])
    assert listed["ends_at"] < made["ends_at"]


async def test_a_raise_leaves_what_the_tenant_has_set(shop: Shop) -> None:
    tenant = await shop.tenant()
    await shop.set_quota(tenant, requests_per_minute=50)
    body = {"requests_per_minute": 6000, "reason": "launch", "ends_at": soon(days=1)}
    assert (await shop.operate("POST", f"/tenants/{show(tenant)}/quota-raises", body)).status_code == 201
    assert await shop.limits(tenant) == [("tenant", None, 50)]


async def test_a_raise_needs_a_reason_an_end_and_something_to_raise(shop: Shop) -> None:
    tenant = await shop.tenant()
    good = {"requests_per_minute": 6000, "reason": "launch", "ends_at": soon(days=1)}
    for change, param in (
        ({"reason": "  "}, "reason"),
        ({"reason": "a\u0000b"}, "reason"),
        ({"ends_at": soon(days=-1)}, "ends_at"),
        ({"ends_at": soon(days=400)}, "ends_at"),
        ({"ends_at": "2026-12-01T00:00:00"}, "ends_at"),
        ({"requests_per_minute": 600}, "requests_per_minute"),
        ({"requests_per_minute": None, "tokens_per_minute": 5}, "tokens_per_minute"),
        ({"requests_per_minute": None}, None),
    ):
        answer = await shop.operate("POST", f"/tenants/{show(tenant)}/quota-raises", good | change)
        assert (answer.status_code, answer.json().get("param")) == (400, param), (change, answer.text)


async def test_raise_and_reason_are_in_the_audit_log(shop: Shop) -> None:
    tenant = await shop.tenant()
    body = {"requests_per_minute": 6000, "reason": "launch on TV", "ends_at": soon(days=1)}
    made = (await shop.operate("POST", f"/tenants/{show(tenant)}/quota-raises", body)).json()
    entry = (await shop.api(tenant, "GET", "/audit?limit=1")).json()["items"][0]
    assert (entry["noun"], entry["subject"], entry["actor"]["kind"]) == ("quota_raise", made["id"], "operator")
    assert entry["after"]["reason"] == "launch on TV"


async def test_nobodys_tenant_is_not_found(shop: Shop) -> None:
    nobody = "ten_00000000000000000000000000"
    body = {"requests_per_minute": 6000, "reason": "launch", "ends_at": soon(days=1)}
    for tenant in (nobody, "ten_x"):
        assert (await shop.operate("GET", f"/tenants/{tenant}/quotas")).status_code == 404
        assert (await shop.operate("GET", f"/tenants/{tenant}/quotas/effective")).status_code == 404
        assert (await shop.operate("POST", f"/tenants/{tenant}/quotas", {"requests_per_minute": 1})).status_code == 404
        assert (await shop.operate("POST", f"/tenants/{tenant}/quota-raises", body)).status_code == 404
