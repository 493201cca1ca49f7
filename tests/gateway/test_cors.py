"""Browsers show answers to pages of the portal, errors too, and to pages of no other origin."""

import asyncio

import httpx
import msgspec
import pytest

from chappe_kernel.wire.control import RateLimit
from tests.gateway.fake_control import PORTAL
from tests.gateway.test_browser_tokens import from_portal
from tests.gateway.world import RunningGateway, World, auth, chat_body

PATHS = ("/v1/chat/completions", "/v1/embeddings", "/v1/models", "/v1/models/x")
CHAT = PATHS[0]
ASKED = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}


def check_readable(answer: httpx.Response, status: int) -> None:
    """A page of the portal may read this answer, its name and its region."""
    assert answer.status_code == status, answer.text
    assert answer.headers.get_list("access-control-allow-origin") == [PORTAL]
    assert answer.headers["vary"] == "Origin"
    assert {"x-request-id", "x-chappe-region", "retry-after"} <= set(
        answer.headers["access-control-expose-headers"].split(", ")
    )
    assert answer.headers["x-request-id"].startswith("req_")
    assert "access-control-allow-credentials" not in answer.headers


def check_unreadable(answer: httpx.Response) -> None:
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", PATHS)
async def test_preflight_of_the_portal_is_answered_before_anything_is_asked(
    world: World, gateway: RunningGateway, path: str
) -> None:
    world.control.calls.clear()
    for method, names in (
        ("POST", "authorization, Content-Type,x-chappe-region"),
        ("GET", "authorization"),
        ("GET", ""),
    ):
        headers = {
            "origin": PORTAL,
            "access-control-request-method": method,
            "access-control-request-headers": names,
        }
        answer = await gateway.http.options(path, headers=headers)
        check_readable(answer, 204)
        assert answer.content == b""
        assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
        assert answer.headers["access-control-allow-headers"] == "authorization, content-type, x-chappe-region"
        assert answer.headers["access-control-max-age"] == "600"
    assert not [call for call in world.control.calls if "resolve" in call or "grants" in call]


@pytest.mark.parametrize(
    "headers",
    [
        {**ASKED, "origin": "http://evil.example"},
        {**ASKED, "origin": PORTAL.upper()},
        {**ASKED, "origin": PORTAL + ".evil.example"},
        {**ASKED, "origin": "null"},
        ASKED,
        {**ASKED, "origin": PORTAL, "access-control-request-method": "DELETE"},
        {**ASKED, "origin": PORTAL, "access-control-request-method": "post"},
        {**ASKED, "origin": PORTAL, "access-control-request-headers": "authorization, x-forwarded-for"},
        {"origin": PORTAL},
    ],
)
async def test_any_other_preflight_allows_nothing(gateway: RunningGateway, headers: dict[str, str]) -> None:
    answer = await gateway.http.options(CHAT, headers=headers)
    assert answer.status_code == 405
    assert "access-control-allow-methods" not in answer.headers
    assert "access-control-allow-headers" not in answer.headers
    if headers.get("origin") != PORTAL:
        check_unreadable(answer)


async def test_answers_and_streams_are_readable_to_the_portal_alone(world: World, gateway: RunningGateway) -> None:
    token = world.control.new_browser_token(world.key)
    for stream in (False, True):
        answer = await gateway.http.post(CHAT, json=chat_body(stream=stream), headers=from_portal(token))
        check_readable(answer, 200)
        assert answer.headers["x-chappe-region"] == "fr-par"
    check_readable(await gateway.http.get("/v1/models", headers=from_portal(token)), 200)
    other = await gateway.http.post(CHAT, json=chat_body(), headers=from_portal(world.key, "http://evil.example"))
    assert other.status_code == 200, "a key is a key: what a page may read is its browser's business"
    check_unreadable(other)
    plain = await gateway.http.post(CHAT, json=chat_body(), headers=auth(world.key))
    check_unreadable(plain)
    assert "vary" not in plain.headers


async def test_every_kind_of_error_is_readable_to_the_portal(world: World, gateway: RunningGateway) -> None:
    async def post(token: str, **headers: str) -> httpx.Response:
        return await gateway.http.post(CHAT, json=chat_body(), headers={**from_portal(token), **headers})

    token = world.control.new_browser_token(world.key)
    check_readable(await post("x"), 401)
    check_readable(await gateway.http.post(CHAT, content=b"{", headers=from_portal(token)), 400)
    check_readable(await gateway.http.get("/v1/nothing", headers={"origin": PORTAL}), 404)
    check_readable(await gateway.http.get(CHAT, headers={"origin": PORTAL}), 405)
    check_readable(await post(token, **{"content-encoding": "gzip"}), 415)
    check_readable(await post(token, **{"x-chappe-region": "de-fra"}), 421)
    poor = world.control.new_key(world.control.new_tenant(funds_nano=1))
    check_readable(await post(world.control.new_browser_token(poor)), 402)
    narrow = world.control.new_key(world.tenant)
    limits = (RateLimit(f"key:{narrow}", 1),)
    world.control.keys[narrow] = msgspec.structs.replace(world.control.keys[narrow], limits=limits)
    limited = world.control.new_browser_token(narrow)
    check_readable(await post(limited), 200)
    answer = await post(limited)
    check_readable(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    world.engine.script.unavailable_times = 2
    check_readable(await post(token), 503)


async def test_a_gateway_without_recent_word_still_says_so_readably(world: World, gateway: RunningGateway) -> None:
    world.control.max_age_s = 0.2
    world.control.changed()
    await asyncio.sleep(0.2)
    world.control.away = True
    await asyncio.sleep(0.4)
    answer = await gateway.http.post(CHAT, json=chat_body(), headers=from_portal(world.key))
    check_readable(answer, 503)
    check_readable(await gateway.http.options(CHAT, headers={**ASKED, "origin": PORTAL}), 204)
    assert answer.json()["error"]["code"] == "snapshot_too_old"
