"""What callers send is never part of a statement: not before they are known, and not after (LiteLLM CVE-2026-42208)."""

import pytest

from chappe_control.pages.cookies import CONSOLE_COOKIE, PORTAL_COOKIE
from chappe_kernel.wire.control import KeyDigest
from chappe_store.session import NOBODY
from chappe_tenants.api_keys.queries import find_key
from tests.access.world import AccessWorld, Caller

HOSTILE = [
    "' OR '1'='1",
    "'; DROP TABLE api_key; --",
    "ck_m' UNION SELECT digest FROM api_key --",
    "\\'; SELECT pg_sleep(5); --",
    "%27%20OR%201=1",
    "$1",
    ":secret",
    "key_' || (SELECT version()) || '",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_sql_in_a_secret_opens_nothing(access: AccessWorld, text: str) -> None:
    before = await access.last_change()
    for path in ("/api/v1/balance", "/internal/v1/snapshot", "/api/v1/operator/tokens"):
        answer = await access.http.get(path, headers={"authorization": f"Bearer {text}"})
        assert answer.status_code in {401, 404}, (path, answer.text)
    for cookie, path in ((PORTAL_COOKIE, "/api/v1/balance"), (CONSOLE_COOKIE, "/api/v1/operator/tokens")):
        answer = await access.http.get(path, headers={"cookie": f'{cookie}="{text}"'})
        assert answer.status_code in {401, 404}
    visitor = access.doors[Caller.NOBODY].visitor
    for path in ("/sign-in", "/console/sign-in"):
        assert (await visitor.post(path, email=f"{text}@example.eu", password=text)).status_code == 403
    assert await access.last_change() == before


@pytest.mark.parametrize("text", HOSTILE)
async def test_sql_in_a_digest_finds_no_key(access: AccessWorld, text: str) -> None:
    async with access.control.database.tenant(NOBODY) as session:
        assert await find_key(session, [KeyDigest(1, text.encode())]) is None


@pytest.mark.parametrize("text", HOSTILE)
async def test_sql_in_what_a_caller_looks_for_is_text(access: AccessWorld, text: str) -> None:
    """Parameters of those who are known: ids, cursors, searches, names."""
    for path in (f"/api/v1/keys?cursor={text}", f"/api/v1/usage/events?cursor={text}"):
        assert (await access.call(Caller.MANAGEMENT_KEY, "GET", path)).status_code == 400
    assert (await access.call(Caller.MANAGEMENT_KEY, "DELETE", f"/api/v1/keys/{text}")).status_code == 404
    console = access.doors[Caller.SUPPORT].visitor
    assert (await console.get(f"/console/tenants?q={text}")).status_code == 200
    project = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/projects", {"name": text})
    assert project["name"] == text
