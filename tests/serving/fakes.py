"""A control plane and a Ray dashboard that remember what they were told, on real sockets."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Self

import msgspec
from aiohttp import web

from chappe_kernel.wire.control import DeploymentSpec, DeploymentStatus


@contextlib.asynccontextmanager
async def _listening(app: web.Application, port: int = 0) -> AsyncIterator[int]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class FakeControl:
    """Answers with its specs and keeps every report."""

    def __init__(self, specs: list[DeploymentSpec]) -> None:
        self.specs = specs
        self.reported: list[list[DeploymentStatus]] = []
        self.credential = "region-credential"
        self.away = False
        self.url = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, specs: list[DeploymentSpec]) -> AsyncIterator[Self]:
        control = cls(specs)
        app = web.Application()
        app.router.add_get("/internal/v1/deployments", control._deployments)
        app.router.add_post("/internal/v1/deployments/status", control._status)
        async with _listening(app) as port:
            control.url = f"http://127.0.0.1:{port}"
            yield control

    async def _deployments(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.Response(body=msgspec.json.encode(self.specs))

    async def _status(self, request: web.Request) -> web.Response:
        self._check(request)
        self.reported.append(msgspec.json.decode(await request.read(), type=list[DeploymentStatus]))
        return web.Response(status=204)

    def _check(self, request: web.Request) -> None:
        if self.away:
            raise web.HTTPServiceUnavailable
        if request.headers.get("authorization") != f"Bearer {self.credential}":
            raise web.HTTPUnauthorized


class FakeDashboard:
    """Serve's REST API: what was put runs at once, unless `result` says otherwise."""

    def __init__(self) -> None:
        self.token = "ray-token"
        self.puts: list[dict[str, Any]] = []
        self.applications: dict[str, dict[str, Any]] = {}
        self.result = "RUNNING"
        self.url = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> AsyncIterator[Self]:
        dashboard = cls()
        app = web.Application()
        app.router.add_get("/api/serve/applications/", dashboard._get)
        app.router.add_put("/api/serve/applications/", dashboard._put)
        async with _listening(app) as port:
            dashboard.url = f"http://127.0.0.1:{port}"
            yield dashboard

    async def _get(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response({"controller_info": {}, "applications": self.applications})

    async def _put(self, request: web.Request) -> web.Response:
        self._check(request)
        body = await request.json()
        self.puts.append(body)
        self.applications = {
            each["name"]: {
                "status": self.result,
                "message": "",
                # Serve adds the defaults of its own schema.
                "deployed_app_config": {**each, "runtime_env": {}, "external_scaler_enabled": False},
                "deployments": {"engine": {"replicas": [{"state": "RUNNING"}]}},
            }
            for each in body["applications"]
        }
        return web.Response()

    def _check(self, request: web.Request) -> None:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            raise web.HTTPUnauthorized
