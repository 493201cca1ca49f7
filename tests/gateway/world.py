"""A small world around gateways: control plane, engine, Valkey, and clients of every kind."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from openai import AsyncOpenAI

from chappe_gateway.edge.server import create_server
from chappe_gateway.gateway import Gateway
from chappe_gateway.settings import GatewaySettings
from chappe_kernel.wire.control import UsageEvent
from tests.gateway.fake_control import CHAT, CREDENTIAL, FakeControl
from tests.gateway.scripted_engine import ScriptedEngine
from tests.gateway.servers import app_config, free_port, serving


@dataclass
class RunningGateway:
    url: str
    port: int
    gateway: Gateway
    http: httpx.AsyncClient


@dataclass
class World:
    control: FakeControl
    control_port: int
    engine: ScriptedEngine
    redis_url: str
    folder: Path
    tenant: UUID
    key: str
    ports: dict[str, int] = field(default_factory=dict)

    def settings(self, region: str = "fr-par", gateway_id: str = "gw-1", **changes: Any) -> GatewaySettings:
        values: dict[str, Any] = {
            "region": region,
            "gateway_id": gateway_id,
            "control_url": f"http://127.0.0.1:{self.control_port}",
            "region_credential": CREDENTIAL,
            "serving_url": f"http://127.0.0.1:{self.engine.port}",
            "redis_url": self.redis_url,
            "spool_dir": str(self.folder / "spool"),
            "port": self.ports[region],
            "snapshot_poll_s": 0.05,
            "keys_poll_s": 0.05,
            "peers_poll_s": 0.1,
            "record_wait_s": 1.0,
            "drain_s": 1.0,
            **changes,
        }
        return GatewaySettings(**values)

    @contextlib.asynccontextmanager
    async def gateway(
        self, region: str = "fr-par", gateway_id: str = "gw-1", **changes: Any
    ) -> AsyncIterator[RunningGateway]:
        gateway = Gateway(self.settings(region, gateway_id, **changes))
        port = gateway.settings.port
        async with serving(create_server(gateway).config), httpx.AsyncClient(timeout=20) as http:
            http.base_url = httpx.URL(f"http://127.0.0.1:{port}")
            yield RunningGateway(f"http://127.0.0.1:{port}", port, gateway, http)

    def openai(self, url: str, key: str | None = None) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=url + "/v1", api_key=key or self.key, max_retries=0)

    async def events(self, count: int, within_s: float = 5.0) -> list[UsageEvent]:
        """Wait until the control plane has `count` events, and make sure that no more come."""
        await until(lambda: len(self.control.events) >= count, within_s)
        await asyncio.sleep(0.2)
        assert len(self.control.events) == count
        assert self.control.other_stories == []
        assert len(self.control.deliveries) == count
        return list(self.control.events.values())


@contextlib.asynccontextmanager
async def new_world(
    redis_url: str, folder: Path, control_type: type[FakeControl] = FakeControl
) -> AsyncIterator[World]:
    ports = {"fr-par": free_port(), "de-fra": free_port()}
    control = control_type({region: f"http://127.0.0.1:{port}" for region, port in ports.items()})
    control_port = free_port()
    engine = ScriptedEngine(free_port(), redis_url)
    tenant = control.new_tenant()
    async with serving(app_config(control, control_port)), engine.running():
        yield World(control, control_port, engine, redis_url, folder, tenant, control.new_key(tenant), ports)


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for something that other tasks or processes bring about."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 -- it lives in other tasks and processes, which set no event of ours
            await asyncio.sleep(0.01)


async def status_leaves(
    ask: Callable[[], Awaitable[httpx.Response]], status: int, within_s: float = 5.0
) -> httpx.Response:
    """Ask until the answer has another status than this one; returns that answer."""
    async with asyncio.timeout(within_s):
        while (answer := await ask()).status_code == status:  # noqa: ASYNC110 -- only asking again can tell
            await asyncio.sleep(0.05)
    return answer


def chat_body(content: str = "hello there", **fields: Any) -> dict[str, Any]:
    return {"model": CHAT, "messages": [{"role": "user", "content": content}], **fields}


def auth(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@dataclass
class RawClient:
    """A client on a bare socket, to say what no library would."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, port: int, limit: int = 2**16) -> AsyncIterator["RawClient"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def send_head(self, path: str, key: str, **headers: str) -> None:
        lines = [f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {key}", "content-type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send_chat(self, key: str, **fields: Any) -> None:
        body = json.dumps(chat_body(**fields)).encode()
        self.send_head("/v1/chat/completions", key, content_length=str(len(body)))
        self.writer.write(body)

    async def read_head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), headers
