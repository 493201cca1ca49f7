"""Everything that one gateway process consists of, and the tasks that run beside its requests."""

import asyncio
import contextlib
import re
import sqlite3
from collections import Counter
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from chappe_gateway.access.auth import KeyCache
from chappe_gateway.access.key_feed import Changes, KeyFeed
from chappe_gateway.access.rights import Rights, touched_by
from chappe_gateway.access.snapshot import SnapshotKeeper, View
from chappe_gateway.content.keeping import ContentKeeper
from chappe_gateway.content.objects import Bounds
from chappe_gateway.content.sealing import RegionSeal, parse_keys
from chappe_gateway.content.store import ContentStore
from chappe_gateway.control_client import ControlClient, ControlUnreachable
from chappe_gateway.edge.call import WITHDRAWN, Call
from chappe_gateway.engines.health import EngineHealthMonitor
from chappe_gateway.engines.upstream import HttpClient
from chappe_gateway.limits.limit_leases import RateLimiter
from chappe_gateway.limits.repeats import Repeats, RepeatSeal
from chappe_gateway.money.grant_client import GrantKeeper
from chappe_gateway.peers.breakers import Breakers
from chappe_gateway.peers.peers import Peers
from chappe_gateway.region_redis import open_redis
from chappe_gateway.settings import GatewaySettings
from chappe_gateway.telemetry.metrics import Metrics
from chappe_gateway.telemetry.metrics_page import MetricsPage
from chappe_gateway.telemetry.spans import Spans
from chappe_gateway.turns.region_turns import RegionTurns
from chappe_gateway.turns.turns import Turns
from chappe_gateway.usage.records import EngineRecords
from chappe_gateway.usage.shipper import Shipper
from chappe_gateway.usage.spool import Spool
from chappe_gateway.usage.witnesses import Witnesses
from chappe_kernel.breaker import BreakerState
from chappe_kernel.clock import Clock, SystemClock
from chappe_kernel.errors import Unauthenticated, Unavailable
from chappe_kernel.ids import new_id
from chappe_kernel.networks import parse_networks
from chappe_kernel.trace_context import TRACEPARENT, TraceContext, read_trace
from chappe_kernel.wire.control import DeploymentLoad, UsageEvent

if TYPE_CHECKING:
    from chappe_gateway.batches.runner import BatchRunner

_log = structlog.get_logger()
_Settled = TypeVar("_Settled", bound="asyncio.Future[Any]")

_WATCHDOG_PERIOD_S = 0.25
_WATCHED_AT_ONCE = 50
"""Thousands of calls looked at in one go would hold up whatever is new for milliseconds."""
_SETTLE_AT_STOP_S = 15.0
_WITHDRAWN_STALL_S = 1.0
_CANCEL_AGAIN_S = 0.5
_TELL_AGAIN_S = 0.25
_UNSAFE_IN_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]")


class Gateway:
    """The parts, wired. `start` and `stop` belong to the application's lifespan."""

    batches: "BatchRunner"
    """The application's, since it runs whole requests."""

    def __init__(self, settings: GatewaySettings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.name_in_region = f"{settings.gateway_id}:{new_id().hex}"
        """This life of the process: what one that was killed had leased is not its successor's."""
        self.engines = HttpClient(settings.serving_url)
        self.control = ControlClient(settings.control_url, settings.region_credential)
        self.health = EngineHealthMonitor(HttpClient(settings.serving_url))
        self.key_feed = KeyFeed(self.control, self.clock, settings.keys_poll_s)
        self.snapshots = SnapshotKeeper(
            settings,
            self.clock,
            self.control,
            self.health,
            self.loads,
            feed=self.key_feed,
            sent_again=self._has_sent_again,
        )
        self.keys = KeyCache(self.control, self.clock)
        proxies = parse_networks(settings.trusted_proxies)
        self.rights = Rights(settings.region, self.keys, self.snapshots, proxies)
        self.redis = open_redis(settings.redis_url)
        self.metrics = Metrics()
        self.spans = Spans(settings) if settings.otlp_url else None
        self.breakers = Breakers(self.clock)
        self.peers = Peers(settings, self.clock)
        self.limiter = RateLimiter(
            self.redis, self.clock, name=self.name_in_region, peers=lambda: self.turns.office.peers
        )
        self.records = EngineRecords(self.redis)
        seal = RepeatSeal(settings.region_credential, settings.region)
        self.turns = Turns(settings, self.clock, self.control, self.name_in_region)
        self.region_turns = RegionTurns(self.redis, self.clock, settings.region, self.turns)
        self.repeats = Repeats(self.redis, seal, self.clock)
        self.grants = GrantKeeper(self.control, self.clock, settings.gateway_id, settings.grant_block_nano)
        name = _UNSAFE_IN_FILE_NAME.sub("_", settings.gateway_id)
        self.spool = Spool(
            Path(settings.spool_dir) / f"{name}.sqlite",
            max_rows=settings.spool_max_rows,
            min_free_bytes=settings.spool_min_free_bytes,
        )
        self.shipper = Shipper(self.spool, self.control, settings.gateway_id)
        self.witnesses = Witnesses(settings, self.clock, self.records, self.spool, self.control)
        self.content = ContentStore(
            settings.content_path,
            RegionSeal(parse_keys(settings.content_keys), settings.region_credential, settings.region),
            Bounds(settings.content_per_tenant_bytes, settings.content_total_bytes, settings.spool_min_free_bytes),
            self.clock,
        )
        self.content_keeper = ContentKeeper(self.content, self.control, settings.content_look_s)
        self._metrics_page: MetricsPage | None = None
        if settings.metrics_port:
            self._metrics_page = MetricsPage(self, settings.metrics_host, settings.metrics_port)
        self.live: set[Call] = set()
        self._running: Counter[str] = Counter()
        self._told_kept: str | None = None
        self._settling: set[asyncio.Future[Any]] = set()
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the spool, look around once, and start the background. Raises `SpoolTaken`, and `OSError` when the
        metrics' port is taken."""
        if self._metrics_page is not None:
            await self._metrics_page.open()
        await self.witnesses.start()
        self.snapshots.on_change(self.keys.snapshot_changed)
        self.snapshots.on_change(self._epoch_changed)
        self.snapshots.on_change(self._listings_changed)
        self.snapshots.on_change(self.peers.snapshot_changed)
        # In this order: what was true before is forgotten, then it is asked again for those who run by it.
        self.key_feed.on_change(self.keys.forget)
        self.key_feed.on_change(self._confirm_calls)
        self.key_feed.on_change(self.snapshots.keys_changed)
        self.key_feed.on_change(self.content_keeper.keys_changed)
        await self.key_feed.poll()
        await self.snapshots.poll()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.health.check()
        # At last: a dispatcher that does not listen yet is taken for dead.
        await self.region_turns.look()
        if self.spans is not None:
            self._background.append(asyncio.create_task(_keep_running(self.spans.run())))
        for work in (
            self.snapshots.run_polls(),
            self.key_feed.run(),
            self.snapshots.run_heartbeats(),
            self.health.run(),
            self.peers.run(),
            self.records.run(),
            self.repeats.run(),
            self.limiter.concurrency.run(),
            self.turns.run(),
            self.region_turns.run(),
            self.grants.run_returns(),
            self.grants.run_recalls(),
            self.shipper.run(),
            self.content_keeper.run(),
            self._watch_calls(),
            *self.witnesses.background(self.shipper),
        ):
            self._background.append(asyncio.create_task(_keep_running(work)))

    async def stop(self) -> None:
        """Settle what has ended, ship it, give budget back. Requests are over by now."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=_SETTLE_AT_STOP_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_AT_STOP_S):
                await self.spool.written()
        await _cancel(self._background)
        await self.shipper.flush()
        if self.spans is not None:
            await self.spans.flush()
            self.spans.close()
        await self.grants.close()
        await self.snapshots.leave()
        self.spool.close()
        self.content.close()
        self.engines.close()
        self.control.close()
        await self.limiter.concurrency.close()
        await self.region_turns.close()
        self.peers.close()
        await self.redis.aclose()
        if self._metrics_page is not None:
            await self._metrics_page.close()

    def settle_apart(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run `work` in a task that neither a disconnect nor a stop cancels."""
        task = asyncio.create_task(work)
        self.settling(task)
        return task

    def settling(self, settled: _Settled) -> _Settled:
        """A stop waits for this."""
        self._settling.add(settled)
        settled.add_done_callback(self._settling.discard)
        return settled

    def enter(self, call: Call) -> None:
        """Count a request among those in flight. Raises `Unavailable` when there are too many."""
        if len(self.live) >= self.settings.max_in_flight:
            raise Unavailable("this gateway is busy; try again", code="overloaded")
        self.live.add(call)

    def run_on(self, call: Call, deployment: str) -> None:
        """It is admitted, and will run there."""
        call.deployment = deployment
        self._running[deployment] += 1

    def trace_of(self, call: Call) -> TraceContext | None:
        """What to tell those who work for it: its own span if spans are exported, else its client's as it came."""
        if self.spans is None:
            return read_trace(call.headers) if TRACEPARENT in call.named else None
        return call.trace or self.spans.begin(call)

    def note_settled(self, call: Call, event: UsageEvent) -> None:
        """Count it, for whoever watches."""
        self.metrics.settled(event, call.queued_s)
        if self.spans is not None:
            self.spans.ended(call, event)

    def leave(self, call: Call) -> None:
        """The request is settled, or was never admitted."""
        if call not in self.live:
            return
        self.live.remove(call)
        if call.deployment is not None:
            self._running[call.deployment] -= 1

    def loads(self) -> tuple[DeploymentLoad, ...]:
        """Requests in flight by deployment, of those that have any."""
        return tuple(DeploymentLoad(name, count) for name, count in sorted(self._running.items()) if count)

    def breaker_states(self) -> list[tuple[str, str, BreakerState]]:
        """Kind, name and state of each."""
        deployments = [("deployment", name, state) for name, state in self.breakers.states()]
        return deployments + [("region", name, state) for name, state in self.peers.breakers.states()]

    def _listings_changed(self, _: View | None, new: View) -> None:
        self.metrics.keep_models(new.listings)
        self.breakers.keep(new.listings)

    def _epoch_changed(self, old: View | None, new: View) -> None:
        if old is None or old.snapshot.epoch != new.snapshot.epoch:
            self.grants.forget_leases()
            self.settle_apart(self._meet_database(new.snapshot.epoch))

    async def _meet_database(self, epoch: str) -> None:
        """A database that was restored hears first what is still held, so that what is sent again leaves it free."""
        while self.snapshots.epoch() == epoch:
            try:
                await self.grants.tell_kept()
                self._told_kept = epoch
                await self.shipper.saw_epoch(epoch)
            except (ControlUnreachable, sqlite3.Error, OSError):
                # Away, or a disk that fails: nothing is lent before the database has all, so it is tried until it has.
                await asyncio.sleep(_TELL_AGAIN_S)
            else:
                return

    def _has_sent_again(self, epoch: str) -> bool:
        told = self._told_kept == epoch and self.shipper.has_sent_again(epoch)
        return told and self.witnesses.have_sent_again(epoch)

    def _confirm_calls(self, changes: Changes) -> None:
        for call in touched_by(changes, self.live):
            self.settle_apart(self.rights.confirm(call))

    async def _watch_calls(self) -> None:
        """Deadlines of all requests, looked at now and then: nothing is paid per chunk."""
        period_s = min(_WATCHDOG_PERIOD_S, self.settings.stall_s / 4, self.settings.idle_s / 4)
        while True:
            await asyncio.sleep(period_s)
            calls = tuple(self.live)
            for first in range(0, len(calls), _WATCHED_AT_ONCE):
                self._look_at(calls[first : first + _WATCHED_AT_ONCE])
                await asyncio.sleep(0)

    def _look_at(self, calls: Iterable[Call]) -> None:
        loop_now = asyncio.get_running_loop().time()
        now = self.clock.monotonic()
        is_fresh = self.snapshots.is_fresh()
        for call in calls:
            if call not in self.live:
                # It has ended since they were listed.
                continue
            self._check_deadlines(call, now, loop_now)
            if not is_fresh:
                # Whoever lost a right meanwhile has lost it here too by now, and everybody counts on that.
                call.cut_engine("stale")

    def _check_deadlines(self, call: Call, now: float, loop_now: float) -> None:
        # Who may not go on gets no time to take what is left.
        stall_s = min(self.settings.stall_s, _WITHDRAWN_STALL_S) if call.cut == WITHDRAWN else self.settings.stall_s
        if call.sending_since is not None and loop_now - call.sending_since > stall_s:
            call.drop_client()
        elif call.settle_by is not None and now >= call.settle_by:
            call.cut_engine("settle_by")
        elif call.valid_until is not None and now >= call.valid_until:
            call.withdraw(Unauthenticated("the time of this key or token is over", code="key_expired"))
        elif call.reading_since is not None and loop_now - call.reading_since > self.settings.idle_s:
            call.cut_engine("idle")


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """End the tasks. Once is not always enough: a client that fails while it is being cancelled reports its failure."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)


async def _keep_running(work: Coroutine[Any, Any, None]) -> None:
    """A background task that fails is a bug: it is logged, and the process goes on with the others."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception:
        _log.exception("background_task_failed", task=getattr(work, "__qualname__", "?"))
        raise
