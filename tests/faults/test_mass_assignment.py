"""A field that nobody may set is refused by name, and changes nothing (LiteLLM CVE-2026-35029, CVE-2026-47102)."""

import pytest

from tests.access.expectations import EXPECTED
from tests.access.knocking import ask, make_params
from tests.access.test_repeats import caller_of
from tests.access.world import AccessWorld

# What somebody would like to decide for themselves.
COVETED = {
    "id": "key_00000000000000000000000000",
    "tenant_id": "ten_00000000000000000000000000",
    "owner_id": "mem_00000000000000000000000000",
    "state": "active",
    "state_by": "operator",
    "is_admin": True,
    "permissions": ["manage tenants"],
    "credit_limit_nano": 10**18,
    "funds_nano": 10**18,
    "price": {"input_nano_per_token": 0},
    "digest": "AAAA",
    "secret": "ck_i0000000000000000000000000000",
    "created_at": "2020-01-01T00:00:00Z",
    "__class__": "Organisation",
}
# The operator says in which state a new tenant begins, and whose prices a draft is of.
ASKED_FOR = {("POST /api/v1/operator/tenants", "state"), ("POST /api/v1/operator/price-drafts", "tenant_id")}
WITH_BODY = [
    route
    for route, expected in EXPECTED.items()
    if expected.body and route.startswith(("POST /api/", "PATCH /api/", "PUT /api/"))
]


@pytest.mark.parametrize("route", WITH_BODY)
async def test_a_field_that_nobody_may_set_is_refused_and_changes_nothing(access: AccessWorld, route: str) -> None:
    caller, expected = caller_of(route), EXPECTED[route]
    assert expected.body
    params = await make_params(access, expected)
    body = expected.body(access.home(caller))
    before = await access.last_change()
    for field, value in COVETED.items():
        if field not in body and (route, field) not in ASKED_FOR:
            answer = await ask(access, caller, route, params, {**body, field: value})
            assert (answer.status_code, answer.json().get("param")) == (400, field), answer.text
    assert await access.last_change() == before
