"""A cell of real processes: gateways, an engine, a Valkey with its access list; the control plane is in the test."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import redis.asyncio

from chappe_kernel.ids import REQUEST, decode_id
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageEvent
from chappe_kernel.wire.engine import RECORD_FIELD, RECORD_STREAM, EngineRecord
from chappe_local import valkey as embedded
from tests.gateway.fake_control import CREDENTIAL
from tests.gateway.servers import free_port
from tests.gateway.world import World, auth, chat_body
from tests.valkey_server import Valkey

PATH = "/v1/chat/completions"
MATCH_AFTER_S = 2.0
"""Eight reports of an engine that works."""
_STILL_S = 1.0
"""How long nothing more may come after the last event."""


@dataclass
class Cell:
    """Processes are started and killed by the test; what is left is killed at its end."""

    world: World
    valkey: Valkey
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    seen: set[UUID] = field(default_factory=set)
    """Requests whose answers' heads the clients saw."""
    delivered: dict[UUID, int] = field(default_factory=dict)
    """Chunks of text that clients got."""

    async def start(self, *gateways: str, tokens_per_s: float) -> None:
        """An engine, and these gateways, all at once."""
        starts = [self.start_engine(tokens_per_s), *map(self.start_gateway, gateways)]
        await asyncio.gather(*starts)

    async def start_gateway(self, name: str, **settings: str) -> None:
        port = self.ports.setdefault(name, free_port())
        values = {
            "REGION": "fr-par",
            "GATEWAY_ID": name,
            "PORT": str(port),
            "CONTROL_URL": f"http://127.0.0.1:{self.world.control_port}",
            "REGION_CREDENTIAL": CREDENTIAL,
            "SERVING_URL": f"http://127.0.0.1:{self.world.engine.port}",
            "REDIS_URL": self.valkey.urls[embedded.GATEWAY_USER],
            "SPOOL_DIR": str(self.folder / "spool"),
            "MATCH_AFTER_S": str(MATCH_AFTER_S),
            "ORPHAN_LOOK_S": "0.3",
            "SNAPSHOT_POLL_S": "0.1",
            # An upper bound only: on a machine that is not busy a living engine's record is there at once.
            "RECORD_WAIT_S": "15",
            **settings,
        }
        environ = {**os.environ, **{f"CHAPPE_{key}": value for key, value in values.items()}}
        command = [str(Path(sys.executable).with_name("chappe")), "gateway"]
        self._spawn(name, command, environ)
        await self._answers(name, f"http://127.0.0.1:{port}/healthz")

    async def start_engine(self, tokens_per_s: float = 100, **options: Any) -> None:
        options = {"decode_tokens_per_s": tokens_per_s, "slots": 64, "answer_tokens": 200, **options}
        port = self.world.engine.port
        environ = {**os.environ, "ENGINE_REDIS_URL": self.valkey.urls[embedded.ENGINE_USER]}
        records = str(self.folder / "engine-records")
        command = [sys.executable, "-m", "tests.gateway.engine_process", str(port), records, json.dumps(options)]
        self._spawn("engine", command, environ)
        await self._answers("engine", f"http://127.0.0.1:{port}/any/health")

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(5)

    def kill_all(self) -> None:
        for name in tuple(self.running):
            self.kill(name)

    async def ask(self, gateway: str, prompt: str, *, leave_after_s: float | None = None) -> None:
        """One streamed request, whatever happens to the gateway; `leave_after_s` counts from the answer's head."""
        url = f"http://127.0.0.1:{self.ports[gateway]}"
        body = chat_body(prompt, stream=True, max_tokens=150)
        with contextlib.suppress(httpx.TransportError, TimeoutError):
            async with (
                httpx.AsyncClient(base_url=url, timeout=30) as http,
                http.stream("POST", PATH, json=body, headers=auth(self.world.key)) as answer,
            ):
                request_id = decode_id(REQUEST, answer.headers["x-request-id"])
                if answer.status_code == 200:
                    self.seen.add(request_id)
                async with asyncio.timeout(leave_after_s):
                    async for part in answer.aiter_bytes():
                        texts = part.count(b'"content":"') - part.count(b'"content":""')
                        self.delivered[request_id] = self.delivered.get(request_id, 0) + texts

    async def until_delivered(self, tokens: int, *, requests: int) -> None:
        """So many requests' clients have got so many chunks of text each, or more."""
        async with asyncio.timeout(60):
            while sum(got >= tokens for got in self.delivered.values()) < requests:  # noqa: ASYNC110 -- other tasks' work
                await asyncio.sleep(0.02)

    async def records(self) -> list[EngineRecord]:
        """All that engines wrote, in order."""
        async with redis.asyncio.Redis.from_url(self.valkey.urls[embedded.GATEWAY_USER]) as client:
            entries: Any = await client.xrange(RECORD_STREAM)
        return [msgspec.json.decode(fields[RECORD_FIELD.encode()], type=EngineRecord) for _, fields in entries]

    async def reports(self) -> dict[UUID, dict[int, Counts]]:
        """The last durable report of each attempt that any engine made."""
        found: defaultdict[UUID, dict[int, Counts]] = defaultdict(dict)
        for record in await self.records():
            attempts = found[decode_id(REQUEST, record.request_id)]
            known = attempts.get(record.attempt, record.counts)
            attempts[record.attempt] = max(known, record.counts, key=lambda counts: counts.completion_tokens)
        return dict(found)

    async def settled(self, within_s: float = 60.0) -> dict[UUID, UsageEvent]:
        """Once every request of which an engine made a report has its event, and a while later still just one."""
        events = self.world.control.events
        give_up_at = time.monotonic() + within_s
        while missing := (set(await self.reports()) | self.seen) - set(events):
            assert time.monotonic() < give_up_at, self._tell(missing, await self.reports())
            await asyncio.sleep(0.1)
        await asyncio.sleep(_STILL_S)
        return dict(events)

    def _tell(self, missing: set[UUID], reports: dict[UUID, dict[int, Counts]]) -> str:
        stories = [f"{request_id} seen {request_id in self.seen}: {reports.get(request_id)}" for request_id in missing]
        logs = [f"{path.name}: {path.read_text()[-2000:]}" for path in self.folder.glob("gw-*.log")]
        return "\n".join([*stories, *logs])

    def _spawn(self, name: str, command: list[str], environ: dict[str, str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    async def _answers(self, name: str, url: str) -> None:
        async with httpx.AsyncClient() as http, asyncio.timeout(30):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(url)).status_code == 200:
                        return
                assert self.running[name].poll() is None, (self.folder / f"{name}.log").read_text()
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def new_cell(world: World, valkey: Valkey, folder: Path) -> AsyncIterator[Cell]:
    """In place of the world's scripted engine there will be a process."""
    await world.engine.stop()
    cell = Cell(world, valkey, folder)
    try:
        yield cell
    finally:
        cell.kill_all()
