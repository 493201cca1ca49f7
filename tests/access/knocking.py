"""How a test asks a route as one of the callers."""

from collections.abc import Mapping
from typing import Any

import httpx

from tests.access.expectations import EXPECTED
from tests.access.expecting import CONSOLE_SIGN_IN, SIGN_IN, Expected, Manner, Outcome
from tests.access.world import (
    MEMBER_ROLES,
    OPERATOR_ROLES,
    AccessWorld,
    Caller,
    Door,
    sign_in_member,
    sign_in_operator,
)

_SIGN_INS = {"/sign-in": SIGN_IN, "/console/sign-in": CONSOLE_SIGN_IN}
_NAVIGATION = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "accept": "text/html"}
_SEE_OTHER = 303


async def make_params(access: AccessWorld, expected: Expected) -> dict[str, str]:
    """What the path names, made just now."""
    return {} if expected.of is None else await expected.of(access)


async def knock(access: AccessWorld, caller: Caller, route: str, params: Mapping[str, str]) -> Outcome:
    """What a caller gets: a status, or where they are sent to sign in."""
    answer = await ask(access, caller, route, params)
    target = answer.headers.get("location", "").split("?")[0]
    return _SIGN_INS.get(target, _SEE_OTHER) if answer.status_code == _SEE_OTHER else answer.status_code


async def ask(
    access: AccessWorld, caller: Caller, route: str, params: Mapping[str, str], body: Any = None, **headers: str
) -> httpx.Response:
    """As the expectation says that this route is called, with a body of its own making unless one is given."""
    expected = EXPECTED[route]
    method, template = route.split(" ")
    path = template.format(**{"path": "nothing", **params})
    if body is None and expected.body:
        body = expected.body(access.home(caller))
    door = await _new_door(access, caller) if expected.signs_out else access.doors[caller]
    if expected.manner is Manner.PROGRAM:
        return await access.call(door, method, path, body, **headers)
    if method == "GET":
        return await door.visitor.request(method, path, headers={**_NAVIGATION, **door.headers})
    if expected.manner is Manner.SCRIPT:
        return await door.visitor.post_json(path, body)
    return await door.visitor.post(path, **(body or {}))


async def _new_door(access: AccessWorld, caller: Caller) -> Door:
    """The same caller with a session of their own."""
    if caller in MEMBER_ROLES:
        return Door(await sign_in_member(access.control, access.alpha, MEMBER_ROLES[caller]), {})
    if caller in OPERATOR_ROLES:
        return Door(await sign_in_operator(access.control, OPERATOR_ROLES[caller]), {})
    if caller is Caller.OTHER_OWNER:
        return Door(await sign_in_member(access.control, access.beta, MEMBER_ROLES[Caller.OWNER]), {})
    return access.doors[caller]
