"""A request runs only where its tenant, key and header allow it, and that is decided before its body is read."""

import asyncio
import time

import httpx
import pytest

from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RawClient, RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"


async def test_elsewhere_is_421_with_the_url_and_the_body_unread(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.tenant, regions=("de-fra",))
    url = world.control.gateway_urls["de-fra"]
    async with RawClient.to(gateway.port) as client:
        client.send_head(PATH, key, content_length="1000", expect="100-continue")
        started = time.monotonic()
        status, headers = await client.read_head()
        assert status == 421
        assert headers["location"] == url + PATH
        assert headers["connection"] == "close"
        body = await client.reader.readexactly(int(headers["content-length"]))
        assert url.encode() in body
        assert await client.reader.read() == b""
        assert time.monotonic() - started < 1
    assert world.engine.seen == []


async def test_a_client_that_sends_its_body_at_once_can_read_the_421(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.tenant, regions=("de-fra",))
    answer = await gateway.http.post(PATH, json=chat_body("x" * 500_000), headers=auth(key))
    check_error(answer, 421, "wrong_region")


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        ("fr-par", 200, ""),
        ("FR", 200, ""),
        ("de-fra, fr-par", 200, ""),
        ("DE", 421, "wrong_region"),
        ("us-east", 403, "residency_denied"),
        ("", 403, "residency_denied"),
        ("fr-par\x01", 400, "invalid_http"),
    ],
)
async def test_the_header_narrows(world: World, gateway: RunningGateway, header: str, status: int, code: str) -> None:
    headers = [*auth(world.key).items(), ("x-chappe-region", header)]
    answer = await gateway.http.post(PATH, json=chat_body(), headers=headers)
    assert answer.status_code == status
    if code:
        check_error(answer, status, code)


async def test_the_header_cannot_widen(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.tenant, regions=("de-fra",))
    answer = await gateway.http.post(PATH, json=chat_body(), headers={**auth(key), "x-chappe-region": "FR"})
    check_error(answer, 403, "residency_denied")


async def test_two_headers_are_one_list(world: World, gateway: RunningGateway) -> None:
    headers = [*auth(world.key).items(), ("x-chappe-region", "DE"), ("x-chappe-region", "FR")]
    assert (await gateway.http.post(PATH, json=chat_body(), headers=headers)).status_code == 200


async def test_no_region_at_all_is_403(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.tenant, regions=())
    check_error(await gateway.http.post(PATH, json=chat_body(), headers=auth(key)), 403, "residency_denied")


async def test_with_serving_stopped_a_pinned_key_is_503_in_both_regions(world: World) -> None:
    pinned = world.control.new_key(world.tenant, regions=("fr-par",))
    async with world.gateway() as here:
        assert (await here.http.post(PATH, json=chat_body(), headers=auth(pinned))).status_code == 200
        await world.engine.stop()
        await until(lambda: not here.gateway.health.healthy)
        check_error(await here.http.post(PATH, json=chat_body(), headers=auth(pinned)), 503, "region_unavailable")
        moved = await here.http.post(PATH, json=chat_body(), headers=auth(world.key))
        check_error(moved, 421, "wrong_region")
        await until(lambda: world.control.heartbeats[-1].healthy_deployments == ())
    world.control.healthy["fr-par"] = False
    world.control.changed()
    seen = len(world.engine.seen)
    await world.engine.start()
    async with world.gateway("de-fra", "gw-2") as there:
        answer = await there.http.post(PATH, json=chat_body(), headers=auth(pinned))
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "region_unavailable"
        assert answer.headers["x-chappe-region"] == "de-fra"
    assert len(world.engine.seen) == seen


async def test_models_are_residency_checked_but_need_no_engine(world: World, gateway: RunningGateway) -> None:
    elsewhere = world.control.new_key(world.tenant, regions=("de-fra",))
    answer = await gateway.http.get("/v1/models", headers=auth(elsewhere))
    check_error(answer, 421, "wrong_region")
    assert answer.headers["location"].endswith("/v1/models")
    world.engine.script.healthy = False
    await until(lambda: not gateway.gateway.health.healthy)
    assert (await gateway.http.get("/v1/models", headers=auth(world.key))).status_code == 200


async def test_nothing_of_a_chunked_body_is_waited_for(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.tenant, regions=("de-fra",))
    async with RawClient.to(gateway.port) as client:
        client.send_head(PATH, key, transfer_encoding="chunked")
        client.writer.write(b'5\r\n{"a":\r\n')
        async with asyncio.timeout(1):
            status, _ = await client.read_head()
    assert status == 421


async def test_a_region_that_is_gone_from_the_snapshot_is_not_healthy(world: World, gateway: RunningGateway) -> None:
    key = world.control.new_key(world.tenant, regions=("it-mil",))
    answer: httpx.Response = await gateway.http.post(PATH, json=chat_body(), headers=auth(key))
    check_error(answer, 503, "region_unavailable")
