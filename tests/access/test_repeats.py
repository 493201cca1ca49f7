"""What holds for every route of the API that changes something: a POST happens once under one `Idempotency-Key`, an
update needs an `If-Match`. A new route is tested here as soon as the matrix expects it."""

import pytest

from tests.access.expectations import EXPECTED
from tests.access.knocking import ask, make_params
from tests.access.world import AccessWorld, Caller, unlike

# In this order whoever may call a route does.
_CALLERS = (Caller.MANAGEMENT_KEY, Caller.OWNER, Caller.ADMINISTRATOR)
# What a repeat does no second time anyway, and why.
NATURALLY_ONCE = {
    "POST /api/v1/leaked-keys": "a key ends once, whoever reports it how often; nobody has signed in whose key it were",
}

# What nobody here can do, since no seller here takes payments: tests/payments has them.
REFUSED_HERE = {
    "POST /api/v1/payments",
    "POST /api/v1/payment-methods/setups",
    "POST /api/v1/operator/payments/{payment_id}/refunds",
}

POSTS = [
    route for route in EXPECTED if route.startswith("POST /api/") and route not in {*NATURALLY_ONCE, *REFUSED_HERE}
]
UPDATES = [route for route in EXPECTED if route.startswith(("PATCH /api/", "PUT /api/"))]


def caller_of(route: str) -> Caller:
    return next(caller for caller in _CALLERS if EXPECTED[route].outcomes[caller] not in {401, 403})


@pytest.mark.parametrize("route", POSTS)
async def test_a_post_happens_once_under_one_idempotency_key(access: AccessWorld, route: str) -> None:
    caller, expected = caller_of(route), EXPECTED[route]
    params = await make_params(access, expected)
    body = expected.body(access.home(caller)) if expected.body else {}
    key = unlike("once")
    first = await ask(access, caller, route, params, body, idempotency_key=key)
    assert first.status_code == expected.outcomes[caller], first.text
    change = await access.last_change()
    repeat = await ask(access, caller, route, params, body, idempotency_key=key)
    if repeat.status_code == 409:
        assert repeat.json()["code"] == "already_completed", "the answer holds a secret, or it would have been kept"
    else:
        assert (repeat.status_code, repeat.json()) == (first.status_code, first.json())
    assert await access.last_change() == change


@pytest.mark.parametrize("route", UPDATES)
async def test_an_update_needs_the_tag_of_what_was_seen(access: AccessWorld, route: str) -> None:
    caller, expected = caller_of(route), EXPECTED[route]
    params = await make_params(access, expected)
    change = await access.last_change()
    path = route.split(" ")[1].format(**params)
    seen = await access.call(caller, "GET", path)
    assert seen.status_code == 200 and "etag" in seen.headers, f"GET {path} must answer with an ETag"
    stale = await ask(access, caller, route, params, if_match='"stale"')
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    assert await access.last_change() == change
    changed = await ask(access, caller, route, params, if_match=seen.headers["etag"])
    assert changed.status_code == expected.outcomes[caller], changed.text
    assert "etag" in changed.headers


@pytest.mark.parametrize("route", UPDATES)
async def test_an_update_without_a_tag_is_refused(access: AccessWorld, route: str) -> None:
    caller, expected = caller_of(route), EXPECTED[route]
    door = access.doors[caller]
    path = route.split(" ")[1].format(**await make_params(access, expected))
    body = expected.body(access.home(caller)) if expected.body else {}
    headers = {"origin": door.visitor.portal_url, **door.headers}
    answer = await door.visitor.request(route.split(" ", maxsplit=1)[0], path, headers=headers, json=body)
    assert (answer.status_code, answer.json()["code"]) == (428, "if_match_required")
