"""Regions drained, partitioned and rolled, with real gateway processes in both: a pinned request never leaves its
regions, streams finish, and everything that ran is charged once."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from chappe_kernel.rating import Outcome
from tests.gateway.fake_control import CHAT, CREDENTIAL, ELSEWHERE_ONLY
from tests.gateway.fault_proxy import FaultProxy
from tests.gateway.scripted_engine import ScriptedEngine
from tests.gateway.servers import free_port
from tests.gateway.world import World, auth, chat_body, until

PATH = "/v1/chat/completions"
FR, DE = "fr-par", "de-fra"
# Whatever happens, a client hears one of these: done, wrong region or none, no such model there, unavailable.
EXPECTED = {200, 404, 421, 503}


@dataclass
class Regions:
    """Two regions of one gateway process each; clients and the other gateway reach Frankfurt through `network`."""

    world: World
    engines: dict[str, ScriptedEngine]
    network: FaultProxy
    folder: Path
    keys: dict[str, str]
    """By where they may run; `both` anywhere."""
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By key and status."""

    async def start(self, region: str) -> None:
        settings = {
            "REGION": region,
            "GATEWAY_ID": f"gw-{region}",
            "PORT": str(self.world.ports[region]),
            "CONTROL_URL": f"http://127.0.0.1:{self.world.control_port}",
            "REGION_CREDENTIAL": CREDENTIAL,
            "SERVING_URL": f"http://127.0.0.1:{self.engines[region].port}",
            "REDIS_URL": self.world.redis_url,
            "SPOOL_DIR": str(self.folder / region),
            "SNAPSHOT_POLL_S": "0.1",
            "PEERS_POLL_S": "0.1",
            "IDLE_S": "1.5",
            "DRAIN_S": "20",
        }
        environ = {**os.environ, **{f"CHAPPE_{name}": value for name, value in settings.items()}}
        self._spawn(region, environ)
        async with httpx.AsyncClient() as http, asyncio.timeout(30):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"{self.url(region)}/healthz")).status_code == 200:
                        return
                assert self.running[region].poll() is None, (self.folder / f"{region}.log").read_text()
                await asyncio.sleep(0.02)

    def _spawn(self, region: str, environ: dict[str, str]) -> None:
        command = [str(Path(sys.executable).with_name("chappe")), "gateway"]
        with (self.folder / f"{region}.log").open("ab") as log:
            self.running[region] = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    def url(self, region: str) -> str:
        return f"http://127.0.0.1:{self.world.ports[region]}"

    def terminate(self, region: str) -> "subprocess.Popen[bytes]":
        process = self.running.pop(region)
        process.send_signal(signal.SIGTERM)
        return process

    async def ask(self, pinned_to: str, at: str, model: str = CHAT, **fields: object) -> tuple[int, str]:
        """Status and text of one request, whose prompt says where it may run."""
        body = {**chat_body(f"may run in {pinned_to}"), "model": model, "stream": True, **fields}
        async with httpx.AsyncClient(timeout=30) as http:
            try:
                answer = await http.post(self.url(at) + PATH, json=body, headers=auth(self.keys[pinned_to]))
            except httpx.TransportError:
                # A gateway that is not there.
                return 0, ""
        self.answered[pinned_to, answer.status_code] += 1
        return answer.status_code, answer.text

    async def keep_asking(self, stop: asyncio.Event) -> None:
        """Everybody, everywhere, for as long as nobody says stop."""
        while not stop.is_set():
            asked = [
                self.ask(pinned_to, at, model)
                for pinned_to in (FR, DE, "both")
                for at in (FR, DE)
                for model in (CHAT, ELSEWHERE_ONLY)
            ]
            for status, text in await asyncio.gather(*asked):
                assert status in EXPECTED | {0}
                assert status != 200 or "[DONE]" in text or '"error"' in text
            await asyncio.sleep(0.02)

    def check_nothing_left_its_regions(self) -> None:
        for region, other in ((FR, DE), (DE, FR)):
            prompts = [json.loads(seen.body)["messages"][0]["content"] for seen in self.engines[region].generations()]
            assert f"may run in {other}" not in prompts
            assert prompts, "the test saw nothing run"


@pytest.fixture
async def regions(world: World, tmp_path: Path) -> AsyncIterator[Regions]:
    network = FaultProxy(free_port(), world.ports[DE])
    world.control.gateway_urls[DE] = f"http://127.0.0.1:{network.port}"
    there = ScriptedEngine(free_port(), world.redis_url)
    new_key = world.control.new_key
    keys = {FR: new_key(world.tenant, regions=(FR,)), DE: new_key(world.tenant, regions=(DE,)), "both": world.key}
    regions = Regions(world, {FR: world.engine, DE: there}, network, tmp_path, keys)
    async with network.running(), there.running():
        try:
            await asyncio.gather(regions.start(FR), regions.start(DE))
            await until(lambda: bool(world.control.heartbeats), 10)
            await is_answered(regions, "both", FR, ELSEWHERE_ONLY)
            yield regions
        finally:
            for process in regions.running.values():
                process.kill()
                process.wait(5)


async def is_answered(regions: Regions, pinned_to: str, at: str, model: str = CHAT, status: int = 200) -> None:
    """From some moment on, soon."""
    async with asyncio.timeout(15):
        while (await regions.ask(pinned_to, at, model))[0] != status:  # noqa: ASYNC110 -- only asking again can tell
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def load(regions: Regions) -> AsyncIterator[None]:
    stop = asyncio.Event()
    asking = asyncio.create_task(regions.keep_asking(stop))
    try:
        yield
    finally:
        stop.set()
        await asking


async def test_sigterm_in_either_region_lets_every_stream_finish(regions: Regions) -> None:
    for engine in regions.engines.values():
        engine.script.tokens, engine.script.delay_s = 40, 0.03
    long = [
        regions.ask("both", FR, max_tokens=50),
        regions.ask(FR, FR, max_tokens=50),
        regions.ask("both", FR, ELSEWHERE_ONLY, max_tokens=50),
        regions.ask(DE, DE, ELSEWHERE_ONLY, max_tokens=50),
    ]
    before = sum(len(engine.generations()) for engine in regions.engines.values())
    streams = [asyncio.create_task(asked) for asked in long]
    await until(lambda: sum(len(engine.generations()) for engine in regions.engines.values()) == before + 4)
    there = regions.terminate(DE)
    # Nobody is sent to who is going, and who is pinned there goes nowhere else.
    await is_answered(regions, "both", FR, ELSEWHERE_ONLY, status=404)
    assert (await regions.ask(DE, FR))[0] in (421, 503)
    here = regions.terminate(FR)
    for status, text in await asyncio.gather(*streams):
        assert status == 200
        assert text.count(" tok") == 40
        assert text.endswith("data: [DONE]\n\n")
    await until(lambda: there.poll() is not None and here.poll() is not None, 20)
    regions.check_nothing_left_its_regions()
    assert regions.world.control.pending_nano(regions.world.tenant) == 0
    outcomes = Counter(event.outcome for event in regions.world.control.events.values())
    assert set(outcomes) == {Outcome.COMPLETED}


async def test_a_partition_sends_nobody_out_of_its_regions_and_ends(regions: Regions) -> None:
    async with load(regions):
        await asyncio.sleep(0.3)
        regions.network.cut()
        await is_answered(regions, "both", FR, ELSEWHERE_ONLY, status=404)
        assert (await regions.ask(FR, FR))[0] == 200
        assert (await regions.ask(DE, DE))[0] == 200
        await regions.network.mend()
        await is_answered(regions, "both", FR, ELSEWHERE_ONLY)
    # A network that swallows everything: who is on the way hears of it in bounded time.
    regions.engines[DE].script.tokens, regions.engines[DE].script.delay_s = 200, 0.02
    stream = asyncio.create_task(regions.ask("both", FR, ELSEWHERE_ONLY, max_tokens=300))
    before = len(regions.engines[DE].generations())
    await until(lambda: len(regions.engines[DE].generations()) > before)
    await asyncio.sleep(0.3)
    regions.network.silent = True
    async with asyncio.timeout(10):
        status, text = await stream
    assert (status, '"error"' in text) == (200, True)
    regions.network.silent = False
    regions.network.reset()
    await is_answered(regions, "both", FR, ELSEWHERE_ONLY)
    regions.check_nothing_left_its_regions()


async def test_a_drained_region_serves_nobody_and_its_pinned_requests_wait_for_it(regions: Regions) -> None:
    async with load(regions):
        await asyncio.sleep(0.2)
        # Its engines are taken away; the control plane hears of it and tells everybody.
        await regions.engines[FR].stop()
        await is_answered(regions, FR, FR, status=503)
        regions.world.control.healthy[FR] = False
        regions.world.control.changed()
        await is_answered(regions, "both", DE)
        for at in (FR, DE):
            assert (await regions.ask(FR, at))[0] == 503
        ran = len(regions.engines[DE].generations())
        await is_answered(regions, DE, DE)
        assert len(regions.engines[DE].generations()) > ran
        await regions.engines[FR].start()
        regions.world.control.healthy[FR] = True
        regions.world.control.changed()
        await is_answered(regions, FR, FR)
    regions.check_nothing_left_its_regions()
    ids = [event.request_id for event in regions.world.control.events.values()]
    assert len(ids) == len(set(ids))
    assert regions.world.control.other_stories == []
