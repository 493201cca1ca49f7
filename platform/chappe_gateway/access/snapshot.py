"""What the gateway knows of the world: the control plane's snapshot, how old it is, and which engines answer here."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from chappe_gateway.access.key_feed import Changes, KeyFeed
from chappe_gateway.control_client import ControlClient, ControlUnreachable
from chappe_gateway.engines.health import EngineHealthMonitor
from chappe_gateway.settings import GatewaySettings
from chappe_kernel.api_keys import prepare_digest
from chappe_kernel.clock import Clock
from chappe_kernel.errors import Unavailable
from chappe_kernel.wire.control import (
    DeploymentLoad,
    Heartbeat,
    Listing,
    PriceVersion,
    Region,
    Snapshot,
    price_in_force,
)

_log = structlog.get_logger()


class View:
    """A snapshot with the indexes that requests need. Immutable."""

    def __init__(self, snapshot: Snapshot, here: str) -> None:
        self.snapshot = snapshot
        self.regions: dict[str, Region] = {region.name: region for region in snapshot.regions}
        self.jurisdiction_of = {region.name: region.jurisdiction for region in snapshot.regions}
        self.listings: dict[str, Listing] = {listing.name: listing for listing in snapshot.listings}
        self.healthy_elsewhere = frozenset(
            region.name for region in snapshot.regions if region.healthy and region.name != here
        )
        self.prices_here: dict[str, tuple[PriceVersion, ...]] = {
            listing.name: offer.prices
            for listing in snapshot.listings
            for offer in listing.regions
            if offer.region == here
        }
        self.batch_prices_here: dict[str, tuple[PriceVersion, ...]] = {
            listing.name: offer.batch_prices
            for listing in snapshot.listings
            for offer in listing.regions
            if offer.region == here
        }
        # The newest first: it is the one under which this gateway keys its cache.
        self.peppers = tuple(sorted(snapshot.peppers, key=lambda pepper: -pepper.version))
        self.digest = prepare_digest(self.peppers[0]) if self.peppers else None
        """Of a secret, under the newest pepper."""
        self.portal_origin = snapshot.portal_origin.encode()

    def price_in_force(self, listing: str, now: datetime) -> PriceVersion | None:
        """Everybody's price in this region."""
        return price_in_force(self.prices_here.get(listing, ()), now)


class SnapshotKeeper:
    """Polls the snapshot and sends heartbeats. Reading it is free; a snapshot that is too old is not given out, nor one
    whose keys nobody has followed for so long."""

    def __init__(
        self,
        settings: GatewaySettings,
        clock: Clock,
        control: ControlClient,
        health: EngineHealthMonitor,
        loads: Callable[[], tuple[DeploymentLoad, ...]],
        *,
        feed: KeyFeed,
        sent_again: Callable[[str], bool],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._control = control
        self._health = health
        self._loads = loads
        self._feed = feed
        self._sent_again = sent_again
        self._view: View | None = None
        self._confirmed_at = 0.0
        self._database_time: tuple[datetime, float] | None = None
        self._listeners: list[Callable[[View | None, View], None]] = []
        self._reachable = True
        self._beat_soon = asyncio.Event()

    def on_change(self, listener: Callable[[View | None, View], None]) -> None:
        """Call `listener(old, new)` at each new snapshot, before any request sees it."""
        self._listeners.append(listener)

    def is_fresh(self) -> bool:
        """Whether what is known here is young enough to serve with."""
        view = self._view
        if view is None:
            return False
        return self._age_s() <= view.snapshot.max_age_s

    def age_s(self) -> float | None:
        """Since the control plane last confirmed what is known here; None before it first did."""
        return None if self._view is None else self._age_s()

    def epoch(self) -> str | None:
        """The control plane's database, as last heard."""
        return self._view.snapshot.epoch if self._view is not None else None

    def portal_origin(self) -> bytes:
        """As last heard, however long ago: even the answer that this gateway knows nothing recent is to be read."""
        return self._view.portal_origin if self._view is not None else b""

    def database_time(self) -> datetime:
        """Now, as the control plane's database last told, by this machine's monotonic clock since then: behind it by
        the time that an answer travels, and never ahead. This machine's wall clock may be wrong by any time."""
        if self._database_time is None:
            return self._clock.now()
        at, told_at = self._database_time
        return at + timedelta(seconds=self._clock.monotonic() - told_at)

    def view(self) -> View:
        """The newest view. Raises `Unavailable` when there is none, or it is too old to be trusted."""
        if self._view is None or not self.is_fresh():
            raise Unavailable("this gateway has no recent word from its control plane", code="snapshot_too_old")
        return self._view

    async def poll(self) -> None:
        """One look at the control plane. Age counts from when the question was sent."""
        sent_at = self._clock.monotonic()
        old = self._view
        try:
            snapshot, database_time = await self._control.read_snapshot(old.snapshot.version if old else None)
        except ControlUnreachable as error:
            if self._reachable:
                _log.warning("snapshot_unreachable", reason=error.message)
            self._reachable = False
            return
        self._reachable = True
        if database_time is not None:
            self._database_time = database_time, self._clock.monotonic()
        if snapshot is not None:
            self._replace(View(snapshot, self._settings.region))
        self._confirmed_at = sent_at

    async def run_polls(self) -> None:
        """Poll for ever."""
        while True:
            await asyncio.sleep(self._settings.snapshot_poll_s)
            await self.poll()

    def keys_changed(self, _: Changes) -> None:
        """Say so at once: somebody may be waiting for it."""
        self._beat_soon.set()

    async def run_heartbeats(self) -> None:
        """Tell the control plane for ever that this gateway lives, what it sees answer, its load, and how far it has
        followed the changes of keys."""
        while True:
            self._beat_soon.clear()
            await self._beat()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.heartbeat_s):
                    await self._beat_soon.wait()

    async def leave(self) -> None:
        """The last heartbeat."""
        await self._beat(leaving=True)

    def _age_s(self) -> float:
        return self._clock.monotonic() - min(self._confirmed_at, self._feed.confirmed_at)

    async def _beat(self, *, leaving: bool = False) -> None:
        if self._view is None:
            return
        epoch = self._view.snapshot.epoch
        heartbeat = Heartbeat(
            gateway=self._settings.gateway_id,
            snapshot_version=self._view.snapshot.version,
            healthy_deployments=tuple(sorted(self._health.healthy)),
            loads=self._loads(),
            keys_revision=self._feed.revision,
            sent_again=epoch if self._sent_again(epoch) else "",
            leaving=leaving,
        )
        try:
            await self._control.send_heartbeat(heartbeat)
        except ControlUnreachable:
            # The poll has already said so.
            self._reachable = False

    def _replace(self, new: View) -> None:
        old, self._view = self._view, new
        self._health.watch(new.prices_here)
        for listener in self._listeners:
            listener(old, new)
