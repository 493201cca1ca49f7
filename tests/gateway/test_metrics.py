"""Prometheus reads a gateway on a port of its own: true numbers, bounded labels, nothing of any tenant."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.fake_control import CHAT
from tests.gateway.servers import free_port
from tests.gateway.world import RawClient, RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"


@dataclass
class Measured:
    gateway: RunningGateway
    port: int

    async def read(self) -> dict[tuple[str, ...], float]:
        """By name and labels' values."""
        async with httpx.AsyncClient() as http:
            page = await http.get(f"http://127.0.0.1:{self.port}/metrics")
        assert page.status_code == 200
        samples = [sample for family in text_string_to_metric_families(page.text) for sample in family.samples]
        return {
            (sample.name.removeprefix("chappe_gateway_"), *sample.labels.values()): sample.value for sample in samples
        }


@pytest.fixture
async def measured(world: World) -> AsyncIterator[Measured]:
    port = free_port()
    async with world.gateway(metrics_port=port) as gateway:
        yield Measured(gateway, port)


async def test_requests_tokens_and_times_are_counted_by_model(world: World, measured: Measured) -> None:
    http = measured.gateway.http
    world.engine.script.cached = 2
    for stream in (True, True, False):
        assert (await http.post(PATH, json=chat_body(stream=stream), headers=auth(world.key))).status_code == 200
    world.engine.script.drop_times = 2
    assert (await http.post(PATH, json=chat_body(), headers=auth(world.key))).status_code == 503
    seen = await measured.read()
    assert seen["requests_total", CHAT, "completed"] == 3
    assert seen["requests_total", CHAT, "failed"] == 1
    assert [seen["tokens_total", kind, CHAT] for kind in ("prompt", "cached", "completion")] == [18, 6, 24]
    assert seen["time_to_first_token_seconds_count", CHAT] == 2
    assert seen["inter_token_seconds_count", CHAT] == 2
    assert seen["request_seconds_count", CHAT] == 4
    assert seen["queue_seconds_bucket", "0.001", CHAT] == 4
    assert seen["refusals_total", "engine_error"] == 1


async def test_refusals_are_counted_by_reason(world: World, measured: Measured) -> None:
    http = measured.gateway.http
    elsewhere = world.control.new_key(world.tenant, regions=("de-fra",))
    limited = world.control.new_key(world.tenant, requests_per_minute=1)
    await http.post(PATH, json=chat_body(), headers=auth("ck_nonsense"))
    await http.post(PATH, json=chat_body(), headers=auth(elsewhere))
    await http.post(PATH, json=chat_body(n=2), headers=auth(world.key))
    await http.get("/nowhere", headers=auth(world.key))
    answers = [await http.post(PATH, json=chat_body(), headers=auth(limited)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    seen = await measured.read()
    reasons = {name[1]: value for name, value in seen.items() if name[0] == "refusals_total"}
    assert reasons == {
        "invalid_api_key": 1,
        "wrong_region": 1,
        "unsupported_parameter": 1,
        "not_found": 1,
        "rate_limit_exceeded": 1,
    }


async def test_what_runs_waits_and_is_held_is_shown_as_it_is_now(world: World, measured: Measured) -> None:
    world.control.capacities[CHAT] = 1
    await measured.gateway.gateway.turns.poll()
    world.engine.script.tokens, world.engine.script.delay_s = 100, 0.05
    port = measured.gateway.port
    async with RawClient.to(port) as first, RawClient.to(port) as second:
        first.send_chat(world.key, stream=True)
        await first.reader.readuntil(b'" tok"')
        second.send_chat(world.key, stream=True)
        await until(lambda: len(measured.gateway.gateway.live) == 2)
        seen = await measured.read()
        assert (seen["requests_in_flight", CHAT], seen["requests_waiting", CHAT]) == (2, 1)
        assert (seen["in_flight_limit", CHAT], seen["holds_open",]) == (1, 2)
        assert seen["spool_reserved_events",] == 2
    await world.events(2)
    seen = await measured.read()
    assert seen["holds_open",] == seen["spool_reserved_events",] == 0
    assert seen["requests_total", CHAT, "disconnected"] == 2
    assert seen["ready",] == seen["deployment_healthy", CHAT] == 1
    assert 0 <= seen["snapshot_age_seconds",] < 5
    assert seen["process_resident_memory_bytes",] > 1_000_000


async def test_no_label_is_a_tenants(world: World, measured: Measured) -> None:
    http = measured.gateway.http
    await http.post(PATH, json=chat_body("what only I know"), headers=auth(world.key))
    await http.post(PATH, json={**chat_body(), "model": "mine-alone"}, headers=auth(world.key))
    await http.post("/v1/mine-alone", json=chat_body(), headers={**auth(world.key), "x-chappe-region": "mine-alone"})
    async with httpx.AsyncClient() as client:
        page = (await client.get(f"http://127.0.0.1:{measured.port}/metrics")).text
    for secret in (world.key, str(world.tenant), world.tenant.hex, "mine-alone", "what only I know"):
        assert secret not in page
    models = set(re.findall(r'model="([^"]*)"', page))
    assert models <= {listing.name for listing in world.control.snapshot().listings}


async def test_tenants_do_not_reach_it(world: World, measured: Measured) -> None:
    for path in ("/metrics", "/v1/metrics"):
        answer = await measured.gateway.http.get(path, headers=auth(world.key))
        assert answer.status_code == 404


async def test_without_a_port_nothing_listens(world: World, gateway: RunningGateway) -> None:
    assert gateway.gateway._metrics_page is None


async def test_limits_without_redis_are_shown(world: World, tmp_path: object) -> None:
    port = free_port()
    async with world.gateway(metrics_port=port, redis_url=f"unix://{tmp_path}/none.sock") as gateway:
        answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
        assert answer.status_code == 200
        seen = await Measured(gateway, port).read()
        assert seen["limits_without_redis",] == 1
        assert seen["limits_by_own_share_total",] >= 2
