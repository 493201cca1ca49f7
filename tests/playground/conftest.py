"""The portal as its own suite starts it, and for some tests two real gateways that are connected to it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from chappe_gateway.edge.server import create_server
from chappe_gateway.gateway import Gateway
from chappe_gateway.settings import GatewaySettings
from tests.control.world import CREDENTIALS
from tests.gateway.scripted_engine import ScriptedEngine
from tests.gateway.servers import free_port, serving, valkey_server
from tests.playground.cells import Gateways
from tests.portal.conftest import portal
from tests.portal.world import PortalWorld

__all__ = ["gateways", "portal"]


@pytest.fixture
async def gateways(portal: PortalWorld, tmp_path: Path) -> AsyncIterator[Gateways]:
    """One per region, in front of one scripted engine, polling as often as in production."""
    urls = {}
    async with contextlib.AsyncExitStack() as stack:
        redis_url = stack.enter_context(valkey_server())
        engine = await stack.enter_async_context(ScriptedEngine(free_port(), redis_url).running())
        for region, credential in CREDENTIALS.items():
            settings = GatewaySettings(
                region=region,
                gateway_id=f"{region}-gateway-0",
                control_url=str(portal.http.base_url).rstrip("/"),
                region_credential=credential,
                serving_url=f"http://127.0.0.1:{engine.port}",
                redis_url=redis_url,
                spool_dir=str(tmp_path / region),
                port=free_port(),
                drain_s=1.0,
            )
            await stack.enter_async_context(serving(create_server(Gateway(settings)).config))
            urls[region] = f"http://127.0.0.1:{settings.port}"
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=20))
        yield Gateways(urls, engine, http)
