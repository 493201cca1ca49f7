"""Monthly budgets: what stops is never exceeded under any concurrency, and each threshold is announced once."""

import asyncio
from typing import Any

from tests.control.world import CHAT, Tenant
from tests.quotas.shop import Shop

# One request of the world's `use`: 42 prompt tokens at 60 and 8 output tokens at 210.
REQUEST_NANO = 42 * 60 + 8 * 210


async def budgeted(shop: Shop, budget_nano: int, **fields: Any) -> Tenant:
    tenant = await shop.tenant()
    await shop.set_quota(tenant, monthly_budget=f"0.{budget_nano:09d}", **fields)
    return tenant


async def spend(shop: Shop, tenant: Tenant, requests: int, key: str = "inference") -> None:
    lease = await shop.lease(tenant, requests * REQUEST_NANO, requests * REQUEST_NANO, key)
    assert lease.status_code == 200, lease.text
    await shop.paris.use(tenant.keys[key], lease.json()["grant_id"], requests)


async def test_forty_leases_at_once_never_exceed_the_budget_and_none_is_refused_falsely(shop: Shop) -> None:
    """Like forty gateways that each want a tenth: ten get it, and what they give back is lent again."""
    tenant = await budgeted(shop, 1_000_000)
    facts = await shop.facts(tenant)
    answers = await asyncio.gather(*(shop.ask(facts, 100_000, 100_000) for _ in range(40)))
    granted = [answer.json() for answer in answers if answer.status_code == 200]
    assert sum(grant["amount_nano"] for grant in granted) == 1_000_000
    # All of it is lent and none is spent: it may come back, so the others are told to try again.
    assert {answer.json()["code"] for answer in answers if answer.status_code != 200} == {"budget_unavailable"}
    await shop.give_back(granted[0]["grant_id"], 100_000)
    assert (await shop.lease(tenant, 500_000)).json()["amount_nano"] == 100_000


async def test_a_spent_budget_stops_and_says_whose_it_is(shop: Shop) -> None:
    tenant = await budgeted(shop, 2 * REQUEST_NANO)
    await spend(shop, tenant, 2)
    refused = await shop.lease(tenant, 1, 1)
    assert (refused.status_code, refused.json()["code"]) == (402, "monthly_budget_reached")
    assert refused.json()["param"] == "tenant"
    assert "the monthly budget of the organisation" in refused.json()["detail"]
    (state,) = (await shop.effective(tenant))["budgets"]
    assert (state["spent"], state["pending"]) == (state["amount"], "0.000000000")


async def test_a_projects_a_keys_and_a_models_budget_stop_only_their_own(shop: Shop) -> None:
    tenant = await shop.tenant()
    key = await shop.key_id(tenant)
    await shop.set_quota(tenant, key_id=key, monthly_budget="0.000010000")
    await shop.set_quota(tenant, project_id=await shop.project_id(tenant), monthly_budget="0.000100000", model=CHAT)
    await spend(shop, tenant, 2)
    assert (await shop.lease(tenant, 10_000, 10_000)).status_code == 402
    assert (await shop.lease(tenant, 10_000, 10_000, "fr-only")).status_code == 200
    facts = await shop.facts(tenant)
    assert sorted(budget.model or "" for budget in facts.budgets) == ["", CHAT]
    states = (await shop.effective(tenant, f"?key_id={key}"))["budgets"]
    assert {(state["set_by"]["level"], state["spent"]) for state in states} == {
        ("key", f"0.{2 * REQUEST_NANO:09d}"),
        ("project", f"0.{2 * REQUEST_NANO:09d}"),
    }


async def test_a_budget_knows_what_was_spent_before_it_was_set(shop: Shop) -> None:
    tenant = await shop.tenant()
    await spend(shop, tenant, 3)
    await shop.set_quota(tenant, monthly_budget=f"0.{3 * REQUEST_NANO:09d}")
    assert (await shop.lease(tenant, 1, 1)).json()["code"] == "monthly_budget_reached"


async def test_another_month_begins_with_the_whole_budget(shop: Shop) -> None:
    tenant = await budgeted(shop, REQUEST_NANO)
    await spend(shop, tenant, 1)
    await shop.sql("UPDATE usage_spending SET month = month - interval '1 month' WHERE tenant_id = $1", tenant.id)
    assert (await shop.lease(tenant, REQUEST_NANO, REQUEST_NANO)).status_code == 200


async def test_a_budget_that_only_announces_stops_nobody(shop: Shop) -> None:
    tenant = await budgeted(shop, 1, hard_stop=False, alert_percents=[100])
    assert (await shop.facts(tenant)).budgets == ()
    await spend(shop, tenant, 2)
    assert [told["percent"] for told in await shop.outbox("budget.threshold_reached", tenant)] == [100]


async def test_each_threshold_is_announced_once_however_usage_comes(shop: Shop) -> None:
    tenant = await budgeted(shop, 10 * REQUEST_NANO, alert_percents=[10, 50, 100])
    for requests in (1, 1, 5, 1):
        await spend(shop, tenant, requests)
    told = await shop.outbox("budget.threshold_reached", tenant)
    assert [(one["percent"], one["spent"]) for one in told] == [
        (10, f"0.{REQUEST_NANO:09d}"),
        (50, f"0.{7 * REQUEST_NANO:09d}"),
    ]
    assert told[0] | {"quota_id": "", "percent": 0, "spent": ""} == told[1] | {
        "quota_id": "",
        "percent": 0,
        "spent": "",
    }
    assert (told[0]["level"], told[0]["hard_stop"], told[0]["currency"]) == ("tenant", True, "EUR")
    (state,) = (await shop.effective(tenant))["budgets"]
    assert [alert["percent"] for alert in state["alerts"]] == [50, 10]


async def test_a_changed_budget_is_announced_anew(shop: Shop) -> None:
    tenant = await shop.tenant()
    quota = await shop.set_quota(tenant, monthly_budget=f"0.{2 * REQUEST_NANO:09d}", alert_percents=[50])
    await spend(shop, tenant, 1)
    body = {"monthly_budget": f"0.{4 * REQUEST_NANO:09d}"}
    assert (await shop.api(tenant, "PATCH", f"/quotas/{quota['id']}", body, if_match="*")).status_code == 200
    await spend(shop, tenant, 1)
    told = await shop.outbox("budget.threshold_reached", tenant)
    assert [one["budget"] for one in told] == [f"0.{2 * REQUEST_NANO:09d}", f"0.{4 * REQUEST_NANO:09d}"]


async def test_a_gateway_that_names_anothers_budget_learns_and_lends_nothing_of_it(shop: Shop) -> None:
    alice, bob = await budgeted(shop, 1), await shop.tenant("Bob")
    (budget,) = (await shop.facts(alice)).budgets
    answer = await shop.paris.call(
        "POST",
        "/grants",
        {
            "grant_id": "019aa000-0000-7000-8000-000000000001",
            "tenant_id": str(bob.id),
            "gateway": "gw-1",
            "wanted_nano": 100,
            "minimum_nano": 100,
            "budgets": [str(budget.id)],
        },
    )
    assert (answer.status_code, answer.json()["amount_nano"]) == (200, 100)
