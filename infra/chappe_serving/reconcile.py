"""Drives one region's Ray Serve to what the catalogue says, for ever, and reports what runs."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import structlog

from chappe_kernel.clock import Clock
from chappe_kernel.errors import Unavailable
from chappe_kernel.wire.control import DeploymentSpec, DeploymentStatus
from chappe_serving.goal_state import ServeDetails, goal_state, is_reached, statuses

_log = structlog.get_logger()

_TIMEOUT_S = 5.0
"""Short, so that a Ray that dies while it answers does not hold up the next one's goal."""
_PUT_TIMEOUT_S = 60.0
"""The first PUT starts Serve's controller, which takes several seconds."""
_REPORT_EVERY_S = 10.0
_FIRST_RETRY_S = 0.5
_SECOND_PUT_S = 5.0
_LONGEST_PUT_S = 120.0


@dataclass(frozen=True)
class ReconcilerSettings:
    """`ray_dashboard_url` is this region's cluster; Serve listens on `serving_host`:`serving_port`."""

    region: str
    control_url: str
    region_credential: str
    ray_dashboard_url: str
    serving_port: int
    serving_host: str = "127.0.0.1"
    interval_s: float = 1.0


class Reconciler:
    """One `step` at a time; `run` repeats it. Control plane and Ray may be away, together or in turn."""

    def __init__(
        self, settings: ReconcilerSettings, token_path: Path, http: aiohttp.ClientSession, clock: Clock
    ) -> None:
        self._settings = settings
        self._token_path = token_path
        self._http = http
        self._clock = clock
        self._specs: list[DeploymentSpec] | None = None
        self._reported: tuple[float, list[DeploymentStatus]] | None = None
        self._last_put: dict[str, Any] | None = None
        self._next_put_at = 0.0
        self._put_wait_s = _SECOND_PUT_S
        self._away: set[str] = set()

    async def run(self) -> None:
        """For ever: quickly while something is away or not yet running, at the interval otherwise."""
        while True:
            settled = await self.step()
            await asyncio.sleep(self._settings.interval_s if settled else _FIRST_RETRY_S)

    async def step(self) -> bool:
        """One round. True when everything that should run does. Never raises for a peer that is away."""
        await self._learn()
        details = await self._look()
        specs = self._specs
        if specs is None:
            # Before the first word of the control plane nothing is known, and nothing is touched.
            return False
        if details is not None:
            await self._drive(specs, details)
        found = statuses(specs, details)
        await self._report(found)
        return all(status.state == "running" for status in found)

    async def _learn(self) -> None:
        """The control plane's wish; while it is away, its last one."""
        url = f"{self._settings.control_url}/internal/v1/deployments"
        try:
            self._specs = msgspec.json.decode(
                await self._call("GET", url, self._control_headers()), type=list[DeploymentSpec]
            )
        except (Unavailable, msgspec.DecodeError) as error:
            self._note_away("control", error)
        else:
            self._away.discard("control")

    async def _look(self) -> ServeDetails | None:
        try:
            answer = await self._call("GET", self._serve_url(), self._ray_headers())
            details = msgspec.json.decode(answer, type=ServeDetails)
        except (Unavailable, OSError, msgspec.DecodeError) as error:
            self._note_away("ray", error)
            # A new cluster starts empty and shall not wait.
            self._last_put = None
            return None
        self._away.discard("ray")
        return details

    async def _drive(self, specs: list[DeploymentSpec], details: ServeDetails) -> None:
        goal = goal_state(specs, self._settings.serving_host, self._settings.serving_port)
        if is_reached(goal, details):
            return
        now = self._clock.monotonic()
        if goal == self._last_put and now < self._next_put_at:
            return
        if goal != self._last_put:
            self._put_wait_s = _SECOND_PUT_S
        self._last_put, self._next_put_at = goal, now + self._put_wait_s
        self._put_wait_s = min(2 * self._put_wait_s, _LONGEST_PUT_S)
        try:
            await self._call("PUT", self._serve_url(), self._ray_headers(), goal)
        except (Unavailable, OSError) as error:
            _log.warning("goal_state_not_accepted", reason=str(error))
            return
        _log.info("goal_state_put", deployments=[spec.name for spec in specs])

    async def _report(self, found: list[DeploymentStatus]) -> None:
        now = self._clock.monotonic()
        if self._reported is not None:
            at, last = self._reported
            if last == found and now - at < _REPORT_EVERY_S:
                return
        try:
            url = f"{self._settings.control_url}/internal/v1/deployments/status"
            await self._call("POST", url, self._control_headers(), found)
        except Unavailable as error:
            _log.warning("status_not_reported", reason=str(error))
            return
        self._reported = now, found

    def _note_away(self, peer: str, error: Exception) -> None:
        """Said once per outage: a step comes every half second."""
        if peer not in self._away:
            self._away.add(peer)
            _log.warning("peer_away", peer=peer, reason=str(error))

    def _serve_url(self) -> str:
        return f"{self._settings.ray_dashboard_url}/api/serve/applications/"

    def _ray_headers(self) -> dict[str, str]:
        """The token is read anew each time, since a new cluster may have a new one. Raises `OSError`."""
        return {"authorization": f"Bearer {self._token_path.read_text().strip()}"}

    def _control_headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._settings.region_credential}"}

    async def _call(self, method: str, url: str, headers: Mapping[str, str], body: object = None) -> bytes:
        """Raises `Unavailable`, whose message has the status and nothing of the answer."""
        data = None if body is None else msgspec.json.encode(body)
        sent = {**headers, "content-type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=_PUT_TIMEOUT_S if method == "PUT" else _TIMEOUT_S)
        try:
            async with self._http.request(method, url, headers=sent, data=data, timeout=timeout) as reply:
                if not reply.ok:
                    raise Unavailable(f"{method} was answered with {reply.status}")
                return await reply.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(type(error).__name__) from None
