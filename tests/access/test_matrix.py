"""Every route of the application with everybody who could call it: what they get, and that who is refused changes
nothing. The expectations are in `expectations.py`; a route without one fails here."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from chappe_kernel.ids import encode_id, new_id
from tests.access.expectations import EXPECTED
from tests.access.expecting import CONSOLE_SIGN_IN, SIGN_IN, Expected
from tests.access.knocking import ask, knock, make_params
from tests.access.world import AccessWorld, Caller
from tests.routes import app_without_services

_REFUSALS = {401, 403, 404, SIGN_IN, CONSOLE_SIGN_IN}


def routes_of(app: Litestar) -> Iterator[str]:
    """`GET /path/{name}` of everything that is served. The framework's own OPTIONS says which methods there are."""
    for route in app.routes:
        assert isinstance(route, HTTPRoute), f"{route.path}: this test knows HTTP alone"
        for handler in route.route_handlers:
            yield from (f"{method} {route.path_format}" for method in handler.http_methods if method != "OPTIONS")


def test_every_route_has_an_expectation_and_every_expectation_a_route() -> None:
    app = app_without_services()
    assert sorted(routes_of(app)) == sorted(EXPECTED), "say in expectations.py who may call it"


@pytest.mark.parametrize("expected", EXPECTED.values(), ids=EXPECTED)
def test_every_expectation_names_everybody(expected: Expected) -> None:
    assert set(expected.outcomes) == set(Caller)


@pytest.mark.parametrize("route", EXPECTED)
async def test_a_route_answers_everybody_as_expected(access: AccessWorld, route: str) -> None:
    expected = EXPECTED[route]
    refused = {caller for caller, outcome in expected.outcomes.items() if outcome in _REFUSALS}
    params = await make_params(access, expected)
    before = await access.last_change()
    found = {caller: await knock(access, caller, route, params) for caller in refused}
    assert await access.last_change() == before or expected.signs_out, "somebody who was refused changed something"
    for caller in set(Caller) - refused:
        found[caller] = await knock(access, caller, route, await make_params(access, expected))
    assert {caller: found[caller] for caller in Caller} == dict(expected.outcomes)


async def test_asking_for_a_routes_methods_tells_no_more_than_them(access: AccessWorld) -> None:
    """The framework answers OPTIONS by itself, behind the same guards."""
    for route, expected in EXPECTED.items():
        path = route.split(" ")[1].replace("{", "").replace("}", "")
        for caller in (Caller.NOBODY, Caller.MANAGEMENT_KEY, Caller.OWNER, Caller.SUPPORT, Caller.REGION):
            answer = await access.call(caller, "OPTIONS", path)
            assert answer.status_code in {204, 303, 401, 403, 404}, (caller, path)
            assert answer.status_code != 204 or (answer.content == b"" and "OPTIONS" in answer.headers["allow"])
            assert answer.status_code == 204 or expected.outcomes[caller] not in {200, 201}, (caller, path)


@pytest.mark.parametrize("route", [route for route, expected in EXPECTED.items() if expected.of])
async def test_what_is_another_tenants_looks_like_what_is_not_there(access: AccessWorld, route: str) -> None:
    expected = EXPECTED[route]
    theirs = await make_params(access, expected)
    nobodys = {name: _other(value) for name, value in theirs.items()}
    for caller, outcome in expected.outcomes.items():
        if outcome == 404:
            one, other = [await ask(access, caller, route, params) for params in (theirs, nobodys)]
            assert (one.status_code, _shown(one)) == (other.status_code, _shown(other)), caller


def _other(value: str) -> str:
    """An id of the same kind that nothing has."""
    prefix, separator, _ = value.partition("_")
    return encode_id(prefix, new_id()) if separator else str(new_id())


def _shown(answer: httpx.Response) -> Any:
    """What the caller can tell: an API's problem, or a page without what is drawn for each answer."""
    if answer.headers["content-type"].startswith("application/"):
        return answer.json()
    return answer.text.partition("<main")[2].partition("</main>")[0]
