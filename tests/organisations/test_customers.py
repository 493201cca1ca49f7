"""A reseller sees and manages its own customers, and nobody else's."""

import secrets
from typing import Any

import pytest

from tests.organisations.world import DETAILS, Organisation, Organisations, tenant_id_of


async def customer_of(reseller: Organisation, **fields: Any) -> dict[str, Any]:
    body = {"name": f"customer {secrets.token_hex(4)}", **fields}
    made: dict[str, Any] = await reseller.api.post("/customers", body, 201)
    return made


async def activate(world: Organisations, customer: dict[str, Any]) -> None:
    await world.step(customer["id"], "verified", "details_checked")
    await world.step(customer["id"], "active", "contract_signed")


async def test_a_customer_applies_within_its_resellers_means(world: Organisations) -> None:
    reseller = await world.reseller(regions=("FR",))
    made = await customer_of(reseller, **DETAILS)
    assert (made["state"], made["relation"], made["allowed_regions"], made["currency"]) == (
        "applied",
        "customer",
        ["FR"],
        "EUR",
    )
    assert [step["state"] for step in made["steps"]] == ["closed"]
    wider = await reseller.api.post("/customers", {"name": "x", "allowed_regions": ["DE"]}, 400)
    assert wider["code"] == "region_not_allowed"
    listed = await reseller.api.get("/customers")
    assert listed == {"items": [made], "next_cursor": None}
    assert await reseller.api.get(f"/customers/{made['id']}") == made
    balance = await reseller.api.get(f"/customers/{made['id']}/balance")
    assert balance["available"] == "0.000000000"


async def test_a_repeated_call_creates_one_customer(world: Organisations) -> None:
    reseller = await world.reseller()
    key = secrets.token_hex(8)
    first = await reseller.api.post("/customers", {"name": "once"}, 201, idempotency_key=key)
    assert await reseller.api.post("/customers", {"name": "once"}, 201, idempotency_key=key) == first
    assert len((await reseller.api.get("/customers"))["items"]) == 1


async def test_only_a_reseller_has_customers(world: Organisations) -> None:
    plain = await world.organisation()
    assert (await plain.api.post("/customers", {"name": "x"}, 403))["code"] == "no_reseller"
    assert (await plain.api.get("/customers"))["items"] == []


async def test_nobody_elses_customers_are_there(world: Organisations) -> None:
    reseller, other, plain = await world.reseller(), await world.reseller(), await world.organisation()
    made = await customer_of(reseller)
    subsidiary = await world.create(parent={"id": reseller.public_id, "relation": "subsidiary"})
    foreign = [(other, made["id"]), (plain, made["id"]), (reseller, plain.public_id), (reseller, subsidiary["id"])]
    foreign += [(reseller, reseller.public_id), (reseller, "ten_no")]
    for who, customer in foreign:
        step = {"state": "closed", "reason": "requested"}
        for method, path, body in (
            ("GET", f"/customers/{customer}", None),
            ("GET", f"/customers/{customer}/balance", None),
            ("PATCH", f"/customers/{customer}", {"name": "mine"}),
            ("POST", f"/customers/{customer}/transitions", step),
        ):
            answer = await who.api.call(method, path, body, if_match="*")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, path)
    assert (await other.api.get("/customers"))["items"] == []
    assert [found["id"] for found in (await reseller.api.get("/customers"))["items"]] == [made["id"]]


async def test_a_reseller_changes_its_customer_within_bounds(world: Organisations) -> None:
    reseller = await world.reseller(regions=("fr-par", "de-fra"))
    made = await customer_of(reseller, **DETAILS, allowed_regions=["FR"])
    path = f"/customers/{made['id']}"
    changed = await reseller.api.change(path, {"legal_name": "Other SA", "allowed_regions": ["DE", "FR"]})
    assert (changed["legal_name"], changed["allowed_regions"]) == ("Other SA", ["DE", "FR"])
    await activate(world, made)
    assert (await reseller.api.change(path, {"legal_name": "Third SA"}, 409))["code"] == "verified_detail"
    assert (await reseller.api.call("PATCH", path, {"name": "x"})).status_code == 428
    for field in ("plan", "is_reseller", "state", "parent", "credit_limit"):
        assert (await reseller.api.change(path, {field: "x"}, 400))["param"] == field


async def test_a_reseller_suspends_resumes_and_closes(world: Organisations) -> None:
    reseller = await world.reseller()
    made = await customer_of(reseller, **DETAILS)
    await activate(world, made)
    path = f"/customers/{made['id']}/transitions"
    for state, reason in (("suspended", "unpaid"), ("active", "resolved"), ("closed", "contract_ended")):
        found = await reseller.api.post(path, {"state": state, "reason": reason}, 200)
        assert (found["state"], found["state_by"]) == (state, "reseller")
    refused = await reseller.api.post(path, {"state": "active", "reason": "resolved"}, 409)
    assert refused["code"] == "no_such_transition"


async def test_a_reseller_neither_verifies_nor_lifts_what_the_operator_suspended(world: Organisations) -> None:
    reseller = await world.reseller()
    made = await customer_of(reseller, **DETAILS)
    path = f"/customers/{made['id']}/transitions"
    verified = {"state": "verified", "reason": "details_checked"}
    assert (await reseller.api.post(path, verified, 403))["code"] == "operator_decides"
    await activate(world, made)
    await reseller.api.post(path, {"state": "suspended", "reason": "unpaid"}, 200)
    taken_over = await world.step(made["id"], "suspended", "compliance")
    assert (taken_over["state_by"], taken_over["state_reason"]) == ("operator", "compliance")
    resume = {"state": "active", "reason": "resolved"}
    assert (await reseller.api.post(path, resume, 403))["code"] == "operator_decides"
    await world.step(made["id"], "active", "resolved")


async def test_a_customer_that_was_moved_away_is_nobodys_to_manage(world: Organisations) -> None:
    reseller = await world.reseller()
    made = await customer_of(reseller)
    operator = await world.operator()
    await operator.change(f"/operator/tenants/{made['id']}", {"parent": None})
    assert (await reseller.api.call("GET", f"/customers/{made['id']}")).status_code == 404


async def test_a_suspended_reseller_changes_nothing(world: Organisations) -> None:
    reseller = await world.reseller()
    made = await customer_of(reseller)
    await world.step(reseller.id, "suspended", "unpaid")
    assert (await reseller.api.call("GET", f"/customers/{made['id']}")).status_code == 200
    assert (await reseller.api.call("POST", "/customers", {"name": "x"})).status_code == 403
    assert (await reseller.api.call("PATCH", f"/customers/{made['id']}", {}, if_match="*")).status_code == 403


async def test_a_customers_log_names_the_reseller_and_none_of_its_people(world: Organisations) -> None:
    reseller = await world.reseller()
    made = await customer_of(reseller)
    await reseller.api.change(f"/customers/{made['id']}", {"name": "Renamed"})
    rows = await world.sql("SELECT DISTINCT actor_kind FROM audit_entry WHERE tenant_id = $1", tenant_id_of(made))
    assert rows == [("reseller",)]


@pytest.mark.parametrize("cursor", ["x", "%00", "AAAA"])
async def test_a_list_takes_its_own_cursors_alone(world: Organisations, cursor: str) -> None:
    reseller = await world.reseller()
    await reseller.api.get(f"/customers?cursor={cursor}", 400)


async def test_the_list_is_paged(world: Organisations) -> None:
    reseller = await world.reseller()
    made = [await customer_of(reseller) for _ in range(3)]
    first = await reseller.api.get("/customers?limit=2")
    rest = await reseller.api.get(f"/customers?limit=2&cursor={first['next_cursor']}")
    assert first["items"] + rest["items"] == made[::-1]
