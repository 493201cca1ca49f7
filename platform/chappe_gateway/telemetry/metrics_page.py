"""What Prometheus reads of a gateway, on a listener of its own that no tenant reaches.

Numbers are put together when they are asked for, in the gateway's own loop, so that none of them is torn.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client import CollectorRegistry, ProcessCollector, make_asgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from chappe_gateway.telemetry.metrics import Histogram, ModelMetrics

if TYPE_CHECKING:
    from chappe_gateway.gateway import Gateway

_PREFIX = "chappe_gateway_"
_HISTOGRAMS: tuple[tuple[str, str, Callable[[ModelMetrics], Histogram]], ...] = (
    ("time_to_first_token_seconds", "From a stream's head to its first text.", lambda model: model.ttft),
    (
        "inter_token_seconds",
        "Between two tokens of a stream after its first, as its mean: one value for each stream.",
        lambda model: model.inter_token,
    ),
    ("request_seconds", "From a request's head until it was settled.", lambda model: model.duration),
    ("queue_seconds", "What a request waited for its turn at its deployment.", lambda model: model.queue),
)


class _Server(uvicorn.Server):
    """Signals are the gateway's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class MetricsPage:
    """`http://HOST:PORT/metrics` for as long as it is open."""

    def __init__(self, gateway: "Gateway", host: str, port: int) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(GatewayCollector(gateway))
        ProcessCollector(registry=self._registry)
        self._address = host, port
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises `OSError` when the address cannot be had."""
        listener = socket.create_server(self._address, backlog=16)
        config = uvicorn.Config(
            make_asgi_app(self._registry),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            limit_concurrency=16,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def close(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving


class GatewayCollector(Collector):
    """A gateway's numbers as Prometheus's families."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    def collect(self) -> Iterable[Metric]:
        yield from self._requests()
        yield from self._present()
        yield from self._stores()
        yield from self._neighbours()
        yield from self._spans()

    def _requests(self) -> Iterable[Metric]:
        models = self._gateway.metrics.models
        requests = _counter("requests", "Requests that an engine was asked for, by how they ended.", "model", "outcome")
        tokens = _counter("tokens", "Tokens that were charged; `cached` are part of `prompt`.", "model", "kind")
        for name, model in models.items():
            for outcome, count in model.outcomes.items():
                requests.add_metric([name, outcome.value], count)
            tokens.add_metric([name, "prompt"], model.prompt_tokens)
            tokens.add_metric([name, "cached"], model.cached_tokens)
            tokens.add_metric([name, "completion"], model.completion_tokens)
        yield requests
        yield tokens
        for name, about, choose in _HISTOGRAMS:
            family = HistogramMetricFamily(_PREFIX + name, about, labels=["model"])
            for model_name, model in models.items():
                histogram = choose(model)
                family.add_metric([model_name], histogram.buckets(), histogram.total)
            yield family
        refusals = _counter("refusals", "Requests that were refused, by the error's code.", "reason")
        for reason, count in self._gateway.metrics.refusals.items():
            refusals.add_metric([reason], count)
        yield refusals

    def _present(self) -> Iterable[Metric]:
        gateway = self._gateway
        in_flight = _gauge("requests_in_flight", "Admitted requests that are not settled yet.", "model")
        for load in gateway.loads():
            in_flight.add_metric([load.name], load.in_flight)
        yield in_flight
        waiting = _gauge("requests_waiting", "Of these, the ones that wait for their turn.", "model")
        limit = _gauge("in_flight_limit", "How many of them this gateway sends to the deployment at once.", "model")
        for queue in gateway.turns.queues():
            waiting.add_metric([queue.deployment], queue.waiting)
            limit.add_metric([queue.deployment], queue.limit)
        yield waiting
        yield limit
        yield _one("holds_open", "Holds on budget that have not ended.", gateway.grants.open_holds())
        ready = gateway.snapshots.is_fresh()
        yield _one("ready", "Whether what is known of the control plane is young enough to serve with.", ready)
        age_s = gateway.snapshots.age_s()
        if age_s is not None:
            yield _one("snapshot_age_seconds", "Since the control plane last confirmed snapshot and keys.", age_s)

    def _stores(self) -> Iterable[Metric]:
        spool, limiter = self._gateway.spool.state(), self._gateway.limiter
        yield _one(
            "spool_unshipped_events", "Usage events that the control plane has not acknowledged.", spool.unshipped
        )
        yield _one("spool_reserved_events", "Room that is kept for requests that run.", spool.reserved)
        yield _one("spool_free_bytes", "Free space on the spool's disk.", spool.free_bytes)
        yield _one("spool_failing", "Whether the disk refuses to take events.", spool.is_failing)
        yield _one("limits_without_redis", "Whether rate limits go by this gateway's own share.", limiter.is_alone())
        by_share = _counter(
            "limits_by_own_share", "Limits that were taken of the own share, without the region's Redis."
        )
        by_share.add_metric([], limiter.taken_alone)
        yield by_share

    def _spans(self) -> Iterable[Metric]:
        spans = self._gateway.spans
        if spans is not None:
            family = _counter("spans", "Spans by what became of them.", "result")
            family.add_metric(["sent"], spans.sent)
            family.add_metric(["lost"], spans.lost)
            yield family

    def _neighbours(self) -> Iterable[Metric]:
        gateway = self._gateway
        healthy = _gauge("deployment_healthy", "Whether the model's deployment answers.", "model")
        for name in gateway.health.watched():
            healthy.add_metric([name], name in gateway.health.healthy)
        yield healthy
        breakers = _gauge("breaker_state", "0 is closed, 1 half-open, 2 open.", "kind", "name")
        for kind, name, state in gateway.breaker_states():
            breakers.add_metric([kind, name], state)
        yield breakers
        forwarded = _counter("forwarded", "Requests sent on to another region's gateway.", "region", "result")
        for (region, result), count in gateway.metrics.forwarded.items():
            forwarded.add_metric([region, result], count)
        yield forwarded


def _counter(name: str, about: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(_PREFIX + name, about, labels=labels)


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, about, labels=labels)


def _one(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, about, value=float(value))
