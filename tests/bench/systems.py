"""The gateways that the benchmark compares, each started alone on its core, with the same upstream behind it."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import httpx
import msgspec
import psutil

from chappe_kernel.ids import new_id
from chappe_kernel.rating import Price
from chappe_kernel.wire.control import (
    Listing,
    ListingInRegion,
    MonthlyBudget,
    PriceVersion,
    RateLimit,
    Region,
    Snapshot,
    UsageReceipt,
)
from tests.bench.load import SYSTEM_CORE, Target, pinned
from tests.bench.upstream import STREAM, UNARY, Ports
from tests.gateway.certificates import Certificate, new_certificate
from tests.gateway.fake_control import CREDENTIAL, STARTED, FakeControl
from tests.gateway.servers import app_config, free_port, serving, valkey_server

_ROOT = Path(__file__).parents[2]
PEERS = _ROOT / ".chappe" / "bench" / "peers"
LITELLM = "1.106.2"
PORTKEY = "1.15.2"
MATPLOTLIB = "3.11.2"
_PATH = "/v1/chat/completions"
_START_S = 240.0
_SERVER_ERROR = 500
_MASTER_KEY = "sk-bench"


class System(NamedTuple):
    """A running gateway, and what to ask it."""

    name: str
    version: str
    unary: Target
    stream: Target
    pids: tuple[int, ...] = ()


class BenchControl(FakeControl):
    """Sells both kinds of answer, and takes usage without looking at it."""

    def snapshot(self) -> Snapshot:
        regions = tuple(Region(name, name[:2].upper(), url, True) for name, url in self.gateway_urls.items())
        return msgspec.structs.replace(
            super().snapshot(), regions=regions, listings=tuple(self._sold(name) for name in (UNARY, STREAM))
        )

    def _sold(self, name: str) -> Listing:
        price = PriceVersion(self.price_version(name), STARTED, Price(60, 15, 210, 0))
        return Listing(
            name=name,
            publisher="bench",
            task="chat",
            currency="EUR",
            created=1_790_000_000,
            context_tokens=2048,
            template_tokens=64,
            default_output_tokens=512,
            max_output_tokens=1024,
            regions=(ListingInRegion("fr-par", (price,)),),
        )

    async def _usage(self, body: bytes) -> tuple[int, bytes]:
        return 200, msgspec.json.encode(UsageReceipt(self.epoch, body.count(b'"request_id"'), 0, 0))


def body_for(model: str) -> bytes:
    """The same for every system."""
    messages = [
        {"role": "system", "content": "You answer briefly."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    body: dict[str, object] = {"model": model, "messages": messages, "max_tokens": 64}
    return msgspec.json.encode({**body, "stream": True} if model == STREAM else body)


def target(port: int, kind: str, **headers: str) -> Target:
    lines = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    return Target(f"http://127.0.0.1:{port}{_PATH}", lines, body_for(kind))


@contextlib.asynccontextmanager
async def chappe(folder: Path, ports: Ports, certificate: Certificate | None = None) -> AsyncIterator[System]:
    """Everything on: key, residency, four limits of requests and tokens, monthly budget, hold, records, spool."""
    name = "chappe" if certificate is None else "chappe_tls"
    port, control_port = free_port(), free_port()
    control = BenchControl({"fr-par": f"http://127.0.0.1:{port}", "de-fra": f"http://127.0.0.1:{free_port()}"})
    key = key_with_everything(control)
    with valkey_server() as redis_url:
        async with serving(app_config(control, control_port)):
            settings = {
                "REGION": "fr-par",
                "GATEWAY_ID": "bench",
                "PORT": str(port),
                "CONTROL_URL": f"http://127.0.0.1:{control_port}",
                "REGION_CREDENTIAL": CREDENTIAL,
                "SERVING_URL": f"http://127.0.0.1:{ports.engine}",
                "REDIS_URL": redis_url,
                "SPOOL_DIR": str(folder / f"{name}-spool"),
                "MAX_CONNECTIONS": "12000",
                "MAX_IN_FLIGHT": "12000",
                "TLS_CERTIFICATE_FILE": str(certificate.certificate) if certificate else "",
                "TLS_KEY_FILE": str(certificate.key) if certificate else "",
            }
            environ = {**os.environ, **{f"CHAPPE_{name}": value for name, value in settings.items()}}
            command = pinned(SYSTEM_CORE, str(Path(sys.executable).with_name("chappe")), "gateway")
            with _process(command, folder / f"{name}.log", environ) as pid:
                scheme = "https" if certificate else "http"
                await answers(f"{scheme}://127.0.0.1:{port}/healthz", pid)
                asked = [
                    target(port, kind, authorization=f"Bearer {key}")._replace(
                        url=f"{scheme}://127.0.0.1:{port}{_PATH}"
                    )
                    for kind in (UNARY, STREAM)
                ]
                yield System(name, _commit(), asked[0], asked[1], (pid,))


@contextlib.asynccontextmanager
async def chappe_tls(folder: Path, ports: Ports) -> AsyncIterator[System]:
    """The same with the gateway's own TLS, on connections that stay open."""
    async with chappe(folder, ports, new_certificate(folder)) as system:
        yield system


def key_with_everything(control: FakeControl) -> str:
    tenant = control.new_tenant(funds_nano=10**16)
    key = control.new_key(tenant)
    budget = new_id()
    control.monthly[budget] = 10**16
    limits = (
        RateLimit(f"tenant:{tenant}", 100_000_000, None, 10**12),
        RateLimit(f"project:{control.keys[key].project_id}", 100_000_000, None, 10**12),
        RateLimit(f"key:{control.keys[key].key_id}", 100_000_000, None, 10**12),
        *(RateLimit(f"tenant:{tenant}", 100_000_000, model, 10**12) for model in (UNARY, STREAM)),
    )
    control.set_quotas(key, *limits, budgets=(MonthlyBudget(budget, None),))
    return key


@contextlib.asynccontextmanager
async def litellm(folder: Path, ports: Ports) -> AsyncIterator[System]:
    """Its proxy without a database: one key, which it does not start without; no budgets, nothing written."""
    install_litellm()
    port = free_port()
    models = [
        {
            "model_name": kind,
            "litellm_params": {"model": "openai/bench", "api_base": f"http://127.0.0.1:{up}/v1", "api_key": "x"},
        }
        for kind, up in ((UNARY, ports.unary), (STREAM, ports.stream))
    ]
    config = folder / "litellm.yaml"
    # JSON is YAML.
    config.write_bytes(msgspec.json.encode({"model_list": models, "litellm_settings": {"telemetry": False}}))
    program = PEERS / "litellm" / "bin" / "litellm"
    options = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    environ = {
        **os.environ,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": _MASTER_KEY,
    }
    with _process(pinned(SYSTEM_CORE, str(program), *options), folder / "litellm.log", environ) as pid:
        await answers(f"http://127.0.0.1:{port}/health/liveliness", pid)
        bearer = f"Bearer {_MASTER_KEY}"
        unary, stream = (target(port, kind, authorization=bearer) for kind in (UNARY, STREAM))
        yield System("litellm", LITELLM, unary, stream, (pid,))


@contextlib.asynccontextmanager
async def portkey(folder: Path, ports: Ports) -> AsyncIterator[System]:
    """Its open gateway: no keys, no budgets, nothing written. With an upstream of one's own it answers streams with
    500: it appends to headers that Node does not let it change."""
    install_portkey()
    port = free_port()
    start = PEERS / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    node = str(Path(sys.executable).with_name("node"))
    command = pinned(SYSTEM_CORE, node, str(start), f"--port={port}", "--headless")
    environ = {**os.environ, "NODE_ENV": "production"}
    with _process(command, folder / "portkey.log", environ) as pid:
        await answers(f"http://127.0.0.1:{port}/", pid)
        common = {"x_portkey_provider": "openai", "authorization": "Bearer x"}
        yield System(
            "portkey",
            PORTKEY,
            target(port, UNARY, x_portkey_custom_host=f"http://127.0.0.1:{ports.unary}/v1", **common),
            target(port, STREAM, x_portkey_custom_host=f"http://127.0.0.1:{ports.stream}/v1", **common),
            (pid,),
        )


async def answers(url: str, pid: int) -> None:
    """Wait until it does, whatever it says."""
    give_up_at = time.monotonic() + _START_S
    async with httpx.AsyncClient(verify=False) as http:  # noqa: S501  # a certificate that was made a moment ago
        while time.monotonic() < give_up_at:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(url)).status_code < _SERVER_ERROR:
                    return
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                break
            await asyncio.sleep(0.05)
    raise click.ClickException(f"nothing answers at {url}")


@contextlib.contextmanager
def _process(command: list[str], log: Path, environ: dict[str, str]) -> Iterator[int]:
    with log.open("ab") as output:
        # A group of its own, since the wheel's `node` is a program that starts another.
        process = subprocess.Popen(
            command, env=environ, stdout=output, stderr=output, cwd=log.parent, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def install_litellm() -> None:
    """Into an environment of its own, for this benchmark only."""
    install("litellm", f"litellm[proxy]=={LITELLM}", LITELLM)


def install_matplotlib() -> Path:
    """Likewise, for the plot. Returns its Python."""
    install("matplotlib", f"matplotlib=={MATPLOTLIB}", MATPLOTLIB)
    return PEERS / "matplotlib" / "bin" / "python"


def install(name: str, requirement: str, version: str) -> None:
    home = PEERS / name
    mark = home / version
    if mark.exists():
        return
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
    python = str(home / "bin" / "python")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, requirement], check=True)
    mark.touch()


def install_portkey() -> None:
    """Into a folder of its own, for this benchmark only."""
    if shutil.which("npm") is None:
        raise click.ClickException("Portkey's gateway needs npm: apt-get install npm")
    mark = PEERS / "portkey" / PORTKEY
    if not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        options = ("--silent", "--no-audit", "--no-fund", "--prefix", str(mark.parent))
        subprocess.run(["npm", "install", *options, f"@portkey-ai/gateway@{PORTKEY}"], check=True)
        mark.touch()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, check=True, cwd=_ROOT, capture_output=True, text=True).stdout.strip()
