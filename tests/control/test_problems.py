"""Whatever is wrong, the answer is a problem that a program can read, and it tells nothing of the inside."""

import json
from typing import Any

from tests.conftest import DatabaseUrls, PostgresServer
from tests.control.world import World


async def _is_problem(answer: Any, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) - {"param"} == {"title", "status", "detail", "code"}
    assert (problem["status"], problem["code"]) == (status, code)


MALFORMED = [b"", b"{", b"nul", b'{"name": "a"} x', b'{"name": NaN}', b'{"name": "\\ud800"}', b'{"name": "\xff"}']
NO_OBJECTS = [b"[]", b'"a"', b"1", b"null", b"true"]


async def test_malformed_json_is_400(world: World) -> None:
    for body in MALFORMED:
        await _is_problem(await world.api("POST", "/projects", content=body), 400, "malformed_json")


async def test_json_that_is_no_object_is_400(world: World) -> None:
    for body in NO_OBJECTS:
        await _is_problem(await world.api("POST", "/projects", content=body), 400, "invalid_request")


async def test_deep_nesting_is_400(world: World) -> None:
    body = b'{"name": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    answer = await world.api("POST", "/projects", content=body)
    assert answer.status_code == 400


async def test_body_over_the_limit_is_413(world: World) -> None:
    body = json.dumps({"name": "x" * 70_000}).encode()
    await _is_problem(await world.api("POST", "/projects", content=body), 413, "request_too_large")

    async def chunks() -> Any:
        for _ in range(70):
            yield b" " * 1024

    await _is_problem(await world.api("POST", "/projects", content=chunks()), 413, "request_too_large")


async def test_unknown_path_and_method(world: World) -> None:
    await _is_problem(await world.http.get("/nowhere"), 404, "not_found")
    await _is_problem(await world.api("GET", "/nowhere"), 404, "not_found")
    answer = await world.api("PATCH", "/keys")
    await _is_problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].replace(" ", "").split(",")) >= {"GET", "POST"}


async def test_what_is_no_key_id_is_404(world: World) -> None:
    for key_id in ("x", "key_x", "prj_01kavs0000e008000000000000", "key_" + "z" * 26, "%00", "..%2f", "é"):
        await _is_problem(await world.api("DELETE", f"/keys/{key_id}"), 404, "not_found")


async def test_every_answer_carries_the_security_headers(world: World) -> None:
    for answer in (
        await world.http.get("/healthz"),
        await world.http.get("/nowhere"),
        await world.http.get("/api/v1/balance"),
        await world.api("GET", "/balance"),
        await world.http.get("/schema/openapi.json"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


async def test_our_own_fault_shows_nothing_of_the_inside(world: World, owner_sql: Any) -> None:
    """A table is gone: the worst that a bug could do. The driver's text has the statement and its values."""
    await owner_sql("DROP TABLE usage_hour CASCADE")
    answer = await world.api("GET", "/usage/summary")
    await _is_problem(answer, 500, "internal_error")
    for inside in ("usage_hour", "SELECT", "sqlalchemy", "asyncpg", "Traceback"):
        assert inside not in answer.text


async def test_database_away_is_503_and_it_recovers(
    world: World, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    assert (await world.http.get("/healthz")).json() == {"status": "ok"}
    server = await postgres.superuser()
    await server.execute(f"ALTER DATABASE {database_urls.name} ALLOW_CONNECTIONS false")
    await server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database_urls.name
    )
    for path in ("/healthz", "/api/v1/balance"):
        answer = await world.http.get(path, headers=world.alice.headers())
        await _is_problem(answer, 503, "database_unavailable")
    await server.execute(f"ALTER DATABASE {database_urls.name} ALLOW_CONNECTIONS true")
    await server.close()
    assert (await world.http.get("/healthz")).status_code == 200
    assert (await world.api("GET", "/balance")).status_code == 200
