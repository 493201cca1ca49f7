"""What the operator does with tenants at `/api/v1/operator/tenants`."""

import secrets

import pytest

from chappe_kernel.ids import LEGAL_ENTITY, encode_id
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.operators.service import OperatorRole
from tests.organisations.world import DETAILS, Organisations, tenant_id_of

R = OperatorRole
NOBODY = "ten_01jd0000000000000000000000"


async def test_a_tenant_is_created_with_all_that_is_known_of_it(world: Organisations) -> None:
    number = f"C-{secrets.token_hex(4)}"
    made = await world.create(
        **DETAILS,
        name="Exemple",
        reference=number,
        contract_reference="2026/17",
        allowed_regions=["FR"],
        state="verified",
    )
    assert made == {
        "id": made["id"],
        "name": "Exemple",
        "state": "verified",
        "state_reason": None,
        "state_by": "operator",
        "state_changed_at": made["state_changed_at"],
        "steps": [
            {"state": "active", "reasons": ["contract_signed"]},
            {"state": "closed", "reasons": ["requested", "rejected"]},
        ],
        "legal_name": "Exemple Télécom SAS",
        "address": {
            "line_1": "1 rue de la Paix",
            "line_2": None,
            "postal_code": "75002",
            "city": "Paris",
            "country": "FR",
        },
        "vat_number": "FR40303265045",
        "contact": {"name": "Camille Martin", "email": "camille@exemple.example", "phone": "+33123456789"},
        "allowed_regions": ["FR"],
        "answers_kept_for_s": 0,
        "currency": "EUR",
        "legal_entity_id": encode_id(LEGAL_ENTITY, DEFAULT_LEGAL_ENTITY_ID),
        "plan": "standard",
        "reference": number,
        "contract_reference": "2026/17",
        "parent": None,
        "verified": True,
        "share": None,
        "relation": None,
        "is_reseller": False,
        "credit_limit": "0.000000000",
        "created_at": made["created_at"],
    }
    operator = await world.operator()
    assert await operator.get(f"/operator/tenants/{made['id']}") == made
    again = await operator.post("/operator/tenants", {"name": "Another", "reference": number}, 409)
    assert (again["code"], again["param"]) == ("reference_taken", "reference")


async def test_without_more_it_applies_and_may_use_all_regions(world: Organisations) -> None:
    made = await world.create()
    assert (made["state"], made["allowed_regions"]) == ("applied", ["fr-par", "de-fra"])


async def test_a_repeated_call_creates_one_tenant(world: Organisations) -> None:
    operator = await world.operator()
    body = {"name": f"once {secrets.token_hex(4)}"}
    key = secrets.token_hex(8)
    first = await operator.post("/operator/tenants", body, 201, idempotency_key=key)
    assert await operator.post("/operator/tenants", body, 201, idempotency_key=key) == first
    found = await operator.get(f"/operator/tenants?search={body['name']}")
    assert [tenant["id"] for tenant in found["items"]] == [first["id"]]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"state": "verified"}, 409, "legal_name"),
        ({"state": "suspended"}, 400, "state"),
        ({"state": "closed"}, 400, "state"),
        ({"allowed_regions": ["nowhere"]}, 400, "allowed_regions"),
        ({"allowed_regions": []}, 400, "allowed_regions"),
        ({"currency": "euro"}, 400, "currency"),
        ({"parent": {"id": NOBODY, "relation": "subsidiary"}}, 400, "parent.id"),
        ({"parent": {"id": "ten_no", "relation": "subsidiary"}}, 400, "parent.id"),
        ({"vat_number": "DE1"}, 400, "vat_number"),
        ({"credit_limit": "5"}, 400, "credit_limit"),
        ({"state_by": "reseller"}, 400, "state_by"),
        ({"id": NOBODY}, 400, "id"),
        ({"name": "a\u202eb"}, 400, "name"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    world: Organisations, body: dict[str, object], status: int, param: str
) -> None:
    problem = await (await world.operator()).post("/operator/tenants", {"name": "x", **body}, status)
    assert problem["param"] == param, problem


async def test_what_is_left_out_of_a_change_stays(world: Organisations) -> None:
    made = await world.create(**DETAILS)
    operator = await world.operator()
    path = f"/operator/tenants/{made['id']}"
    changed = await operator.change(path, {"contact": None, "plan": "standard", "allowed_regions": ["de-fra", "FR"]})
    assert changed == {**made, "contact": None, "allowed_regions": ["de-fra", "FR"]}
    assert await operator.change(path, {}) == changed


async def test_a_change_takes_the_tag_of_what_was_seen(world: Organisations) -> None:
    path = f"/operator/tenants/{(await world.create())['id']}"
    operator = await world.operator()
    assert (await operator.call("PATCH", path, {"name": "New"})).status_code == 428
    tag = (await operator.call("GET", path)).headers["etag"]
    first = await operator.call("PATCH", path, {"name": "New"}, if_match=tag)
    assert (first.status_code, first.json()["name"]) == (200, "New")
    assert (await operator.call("PATCH", path, {"name": "Newer"}, if_match=tag)).status_code == 412
    assert (await operator.call("PATCH", path, {"name": "Newer"}, if_match=first.headers["etag"])).status_code == 200


async def test_the_credit_limit_has_a_tag_of_its_own(world: Organisations) -> None:
    path = f"/operator/tenants/{(await world.create())['id']}"
    finance = await world.operator(R.FINANCE)
    tag = (await finance.call("GET", f"{path}/credit-limit")).headers["etag"]
    limit = await finance.call("PUT", f"{path}/credit-limit", {"credit_limit": "1500.5"}, if_match=tag)
    assert limit.json() == {"credit_limit": "1500.500000000", "currency": "EUR"}
    assert (await finance.get(path))["credit_limit"] == "1500.500000000"
    assert (await finance.call("PUT", f"{path}/credit-limit", {"credit_limit": "0"}, if_match=tag)).status_code == 412


@pytest.mark.parametrize("amount", ["-1", "1e3", "1000000001", "NaN", "", "1.1234567891"])
async def test_no_limit_is_no_amount(world: Organisations, amount: str) -> None:
    path = f"/operator/tenants/{(await world.create())['id']}"
    finance = await world.operator(R.FINANCE)
    problem = await finance.change(f"{path}/credit-limit", {"credit_limit": amount}, 400, method="PUT")
    assert problem["param"] == "credit_limit"


async def test_a_parent_is_named_changed_and_taken_away(world: Organisations) -> None:
    group = await world.create()
    made = await world.create(parent={"id": group["id"], "relation": "subsidiary"})
    assert (made["parent"], made["relation"]) == ({"id": group["id"], "relation": "subsidiary"}, "subsidiary")
    operator = await world.operator()
    below = await operator.get(f"/operator/tenants?parent_id={group['id']}")
    assert [tenant["id"] for tenant in below["items"]] == [made["id"]]
    cycle = {"parent": {"id": made["id"], "relation": "subsidiary"}}
    assert (await operator.change(f"/operator/tenants/{group['id']}", cycle, 409))["code"] == "parent_cycle"
    customer = {"parent": {"id": group["id"], "relation": "customer"}}
    assert (await operator.change(f"/operator/tenants/{made['id']}", customer, 409))["code"] == "no_reseller"
    await operator.change(f"/operator/tenants/{group['id']}", {"is_reseller": True})
    assert (await operator.change(f"/operator/tenants/{made['id']}", customer))["relation"] == "customer"
    stays = await operator.change(f"/operator/tenants/{group['id']}", {"is_reseller": False}, 409)
    assert stays["code"] == "has_customers"
    assert (await operator.change(f"/operator/tenants/{made['id']}", {"parent": None}))["parent"] is None


async def test_the_list_is_searched_filtered_and_paged(world: Organisations) -> None:
    operator = await world.operator()
    word = secrets.token_hex(6)
    made = [await world.create(name=f"{word} {number}") for number in range(3)]
    legal = await world.create(**{**DETAILS, "legal_name": f"Société {word.upper()} SA"})
    path = f"/operator/tenants?search={word}"
    assert [t["id"] for t in (await operator.get(path))["items"]] == [legal["id"], *(t["id"] for t in made[::-1])]
    page = await operator.get(f"{path}&limit=3")
    rest = await operator.get(f"{path}&limit=3&cursor={page['next_cursor']}")
    assert [t["id"] for t in page["items"] + rest["items"]] == [legal["id"], *(t["id"] for t in made[::-1])]
    assert rest["next_cursor"] is None
    await world.step(made[0]["id"], "closed", "rejected")
    assert [t["id"] for t in (await operator.get(f"{path}&state=closed"))["items"]] == [made[0]["id"]]
    by_id = await operator.get(f"/operator/tenants?search={made[1]['id']}")
    assert [t["id"] for t in by_id["items"]] == [made[1]["id"]]
    assert (await operator.get("/operator/tenants?search=%25"))["items"] == []


@pytest.mark.parametrize(
    "query", ["state=unknown", "parent_id=x", "cursor=x", "limit=0", "search=" + "a" * 101, "search=a%00"]
)
async def test_what_no_list_can_be_asked_is_refused(world: Organisations, query: str) -> None:
    await (await world.operator()).get(f"/operator/tenants?{query}", 400)


@pytest.mark.parametrize("tenant_id", ["ten_no", "prj_00000000000000000000000000", NOBODY, "%00"])
async def test_nobody_is_not_found(world: Organisations, tenant_id: str) -> None:
    operator = await world.operator()
    path = f"/operator/tenants/{tenant_id}"
    step = {"state": "closed", "reason": "requested"}
    for method, at, body in (
        ("GET", path, None),
        ("PATCH", path, {}),
        ("POST", f"{path}/transitions", step),
        ("PUT", f"{path}/credit-limit", {"credit_limit": "1"}),
    ):
        assert (await operator.call(method, at, body, if_match="*")).status_code == 404


@pytest.mark.parametrize("role", OperatorRole)
async def test_each_role_does_what_the_table_lets_it(world: Organisations, role: OperatorRole) -> None:
    path = f"/operator/tenants/{(await world.create(**DETAILS))['id']}"
    api = await world.operator(role)
    cares, pays = role in {R.ADMINISTRATOR, R.SUPPORT}, role in {R.ADMINISTRATOR, R.FINANCE}
    assert (await api.call("GET", path)).status_code == 200
    assert (await api.call("POST", "/operator/tenants", {"name": "x"})).status_code == (201 if cares else 403)
    assert (await api.call("PATCH", path, {}, if_match="*")).status_code == (200 if cares else 403)
    step = {"state": "verified", "reason": "details_checked"}
    assert (await api.call("POST", f"{path}/transitions", step)).status_code == (200 if cares else 403)
    limit = await api.call("PUT", f"{path}/credit-limit", {"credit_limit": "1"}, if_match="*")
    assert limit.status_code == (200 if pays else 403)


async def test_nobody_else_is_let_in(world: Organisations) -> None:
    tenant = await world.organisation()
    for path in ("/operator/tenants", f"/operator/tenants/{tenant.public_id}"):
        assert (await tenant.api.call("GET", path)).status_code == 401
        assert (await world.key_call(tenant.keys["management"], path)).status_code == 401


async def test_a_life_from_the_application_to_the_end(world: Organisations) -> None:
    made = await world.create(**DETAILS)
    path = [("verified", "details_checked"), ("active", "contract_signed"), ("suspended", "unpaid")]
    path += [("active", "resolved"), ("suspended", "abuse"), ("closed", "contract_ended")]
    for state, reason in path:
        found = await world.step(made["id"], state, reason)
        assert (found["state"], found["state_reason"], found["state_by"]) == (state, reason, "operator")
    assert (await (await world.operator()).get(f"/operator/tenants/{made['id']}"))["steps"] == []
    assert (await world.step(made["id"], "active", "resolved", 409))["code"] == "no_such_transition"
    rows = await world.sql(
        "SELECT before->>'state', after->>'state', after->>'state_reason', actor_kind FROM audit_entry "
        "WHERE noun = 'tenant' AND tenant_id = $1 AND action = 'changed' ORDER BY sequence",
        tenant_id_of(made),
    )
    states = ["applied", *(state for state, _ in path)]
    assert rows == [
        (before, after, reason, "operator_user") for before, (after, reason) in zip(states, path, strict=False)
    ]


async def test_a_step_needs_a_reason_that_it_can_have(world: Organisations) -> None:
    made = await world.create(**DETAILS)
    assert (await world.step(made["id"], "verified", "unpaid", 400))["param"] == "reason"
    assert (await world.step(made["id"], "verified", "because", 400))["param"] == "reason"
    incomplete = await world.create()
    assert (await world.step(incomplete["id"], "verified", "details_checked", 409))["code"] == "details_missing"


async def test_two_who_take_the_same_step_at_once_take_it_once(world: Organisations) -> None:
    made = await world.create(**DETAILS)
    await world.step(made["id"], "verified", "details_checked")
    operator = await world.operator()
    body = {"state": "active", "reason": "contract_signed"}
    key = secrets.token_hex(8)
    first = await operator.post(f"/operator/tenants/{made['id']}/transitions", body, 200, idempotency_key=key)
    again = await operator.post(f"/operator/tenants/{made['id']}/transitions", body, 200, idempotency_key=key)
    assert first == again
    await operator.post(f"/operator/tenants/{made['id']}/transitions", body, 409)
