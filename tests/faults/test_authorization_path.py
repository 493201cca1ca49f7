"""Who may do what depends on the method, the path as it is served, and one credential: on no other header, and on no
other spelling of the path (LiteLLM CVE-2026-49468, Starlette CVE-2026-48710)."""

import asyncio

import pytest

from tests.access.world import AccessWorld, Caller

CLAIMS = [
    {"host": "internal"},
    {"host": "localhost:8400\\@evil.example"},
    {"x-forwarded-host": "localhost", "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "https"},
    {"x-original-url": "/healthz", "x-rewrite-url": "/healthz"},
    {"x-http-method-override": "GET", "x-method-override": "GET", "x-http-method": "GET"},
    {"forwarded": "for=127.0.0.1;host=localhost", "x-real-ip": "127.0.0.1"},
    {"x-user": "admin", "x-role": "administrator", "x-tenant-id": "ten_0", "x-chappe-role": "owner"},
    {"connection": "authorization"},
]
REFUSED = [
    (Caller.NOBODY, "GET", "/api/v1/balance", 401),
    (Caller.NOBODY, "GET", "/internal/v1/snapshot", 401),
    (Caller.MANAGEMENT_KEY, "GET", "/internal/v1/snapshot", 401),
    (Caller.INFERENCE_KEY, "GET", "/api/v1/keys", 403),
    (Caller.VIEWER, "POST", "/api/v1/projects", 403),
]


@pytest.mark.parametrize("claims", CLAIMS, ids=str)
async def test_no_header_but_the_credential_changes_who_somebody_is(
    access: AccessWorld, claims: dict[str, str]
) -> None:
    for caller, method, path, status in REFUSED:
        body = {"name": "never"} if method == "POST" else None
        answer = await access.call(caller, method, path, body, **claims)
        assert answer.status_code in {status, 400}, (caller, path, answer.text)
    assert (await access.call(Caller.MANAGEMENT_KEY, "GET", "/api/v1/balance")).status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "/healthz/../api/v1/balance",
        "/static/../api/v1/balance",
        "/static/..%2fapi/v1/balance",
        "//api/v1/balance",
        "/./api/v1/balance",
        "/api/v1/balance/",
        "/api/v1/balance;x=/healthz",
        "/api/v1/balance?/healthz",
        "/api/v1/balance#/healthz",
        "/api/v1/%62alance",
        "/API/v1/balance",
        "/api%2fv1/balance",
        "http://localhost/api/v1/balance",
        "/internal/v1/../../internal/v1/snapshot",
        "/console/sign-in/../tenants",
        "/%63onsole/tenants",
    ],
)
async def test_no_spelling_of_a_path_goes_around_its_guard(access: AccessWorld, target: str) -> None:
    """As bytes on a socket: a client library would tidy them up."""
    port = access.http.base_url.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nhost: localhost:8400\r\nconnection: close\r\n\r\n".encode())
    status = int((await reader.read()).split(b" ")[1])
    writer.close()
    await writer.wait_closed()
    assert status in {303, 307, 400, 401, 404}, status
