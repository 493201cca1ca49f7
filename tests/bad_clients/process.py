"""A gateway as a process of its own, whose memory and open connections can be measured."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.gateway.fake_control import CREDENTIAL
from tests.gateway.world import World, until

_MIB = 1024 * 1024
_STARTED_WITHIN_S = 30.0
_STOPPED_WITHIN_S = 20.0


@dataclass
class GatewayProcess:
    """It runs until its context ends, or until `stop`."""

    url: str
    port: int
    log: Path
    running: "subprocess.Popen[bytes]"

    def rss_mib(self) -> float:
        """Its resident memory."""
        return float(psutil.Process(self.running.pid).memory_info().rss) / _MIB

    def connections(self) -> int:
        """Those of clients that it has open."""
        found = psutil.Process(self.running.pid).net_connections("tcp")
        return sum(one.laddr.port == self.port and one.status == psutil.CONN_ESTABLISHED for one in found)

    async def stop(self) -> None:
        """SIGTERM: it ships what it has and gives back all that it does not hold."""
        self.running.send_signal(signal.SIGTERM)
        await until(lambda: self.running.poll() is not None, _STOPPED_WITHIN_S)

    async def health(self, http: httpx.AsyncClient) -> int:
        """What a health check on a connection of its own gets."""
        answer = await http.get(f"{self.url}/healthz", headers={"connection": "close"})
        return answer.status_code


@contextlib.asynccontextmanager
async def gateway_process(world: World, name: str = "gw-1", **settings: str) -> AsyncIterator[GatewayProcess]:
    """`chappe gateway` in the world's cell; `settings` are its environment's, without `CHAPPE_`."""
    port = int(settings.get("PORT", world.ports["fr-par"]))
    values = {
        "REGION": "fr-par",
        "GATEWAY_ID": name,
        "PORT": str(port),
        "CONTROL_URL": f"http://127.0.0.1:{world.control_port}",
        "REGION_CREDENTIAL": CREDENTIAL,
        "SERVING_URL": f"http://127.0.0.1:{world.engine.port}",
        "REDIS_URL": world.redis_url,
        "SPOOL_DIR": str(world.folder / "spool"),
        "SNAPSHOT_POLL_S": "0.1",
        **settings,
    }
    environ = {**os.environ, **{f"CHAPPE_{key}": value for key, value in values.items()}}
    command = Path(sys.executable).with_name("chappe")
    log = world.folder / f"{name}.log"
    running = _spawn([str(command), "gateway"], environ, log)
    gateway = GatewayProcess(f"http://127.0.0.1:{port}", port, log, running)
    try:
        await _answers(gateway)
        yield gateway
    finally:
        if running.poll() is None:
            running.kill()
        running.wait(5)


def _spawn(command: list[str], environ: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(command, env=environ, stderr=output, stdout=output)


async def _answers(gateway: GatewayProcess) -> None:
    async with httpx.AsyncClient() as http, asyncio.timeout(_STARTED_WITHIN_S):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if await gateway.health(http) == httpx.codes.OK:
                    return
            assert gateway.running.poll() is None, gateway.log.read_text()
            await asyncio.sleep(0.02)
