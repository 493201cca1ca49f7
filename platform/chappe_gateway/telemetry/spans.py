"""OpenTelemetry spans of what engines were asked for, after its semantic conventions for generative AI, over OTLP/HTTP.

Nothing here exists unless an endpoint is configured. Spans say which model, how many tokens, how long and how it ended:
never a prompt, an answer, a key or a tenant. A request notes what it was, and the rest is done apart from it; when the
collector does not take them spans are lost, and requests are not.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from chappe_gateway.edge.call import Call
from chappe_gateway.engines.upstream import HttpClient, UpstreamLost
from chappe_gateway.settings import GatewaySettings
from chappe_kernel.rating import Outcome
from chappe_kernel.trace_context import TraceContext, begin_trace, is_drawn, read_trace
from chappe_kernel.wire.control import UsageEvent

_log = structlog.get_logger()

_PATH = b"/v1/traces"
_HEADERS = b"content-type: application/x-protobuf\r\n"
_EXPORT_EVERY_S = 1.0
_TIMEOUT_S = 10.0
_MAX_BATCH = 512
_MAX_WAITING = 8192
_OK = range(200, 300)
_TRY_AGAIN = (429, 502, 503, 504)
_OPERATIONS = {"chat": "chat", "embeddings": "embeddings"}
_NANO = 1_000_000_000

Value = str | int | float


class _Ended(NamedTuple):
    """What is noted of a request: numbers, and names out of the catalogue."""

    trace: TraceContext
    parent: TraceContext | None
    event: UsageEvent
    task: str
    queued_s: float


class Spans:
    """One gateway's. `sent`, `lost` and `waiting` are for whoever watches."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._http = HttpClient(settings.otlp_url)
        self._ratio = settings.otlp_ratio
        self._resource = _attributes(
            {
                "service.name": "chappe-gateway",
                "service.instance.id": settings.gateway_id,
                "chappe.region": settings.region,
            }
        )
        self._region = settings.region
        self._ended: deque[_Ended] = deque()
        self._failing = False
        self.sent = 0
        self.lost = 0

    @property
    def waiting(self) -> int:
        return len(self._ended)

    def begin(self, call: Call) -> TraceContext:
        """The span of a call: below its client's, if that sent one, else of a new trace. Whether it is recorded is
        drawn by the trace's id; nobody is recorded more often because he asks for it."""
        parent = read_trace(call.headers)
        if parent is None:
            begun = begin_trace(secrets.token_bytes(24))
            trace = begun.child(begun.span_id, sampled=is_drawn(begun.trace_id, self._ratio))
        else:
            trace = parent.child(secrets.token_bytes(8), sampled=is_drawn(parent.trace_id, self._ratio))
        call.trace, call.trace_parent = trace, parent
        return trace

    def ended(self, call: Call, event: UsageEvent) -> None:
        """It was settled by this event."""
        trace = call.trace
        if trace is None or not trace.is_sampled:
            return
        if len(self._ended) >= _MAX_WAITING:
            self.lost += 1
            return
        task = "chat" if call.listing is None else call.listing.task
        self._ended.append(_Ended(trace, call.trace_parent, event, task, call.queued_s))

    async def run(self) -> None:
        """Export for ever."""
        while True:
            await asyncio.sleep(_EXPORT_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Export what there is, as long as the collector takes it."""
        while self._ended:
            batch = [self._ended.popleft() for _ in range(min(_MAX_BATCH, len(self._ended)))]
            if not await self._export(batch):
                return

    def close(self) -> None:
        self._http.close()

    async def _export(self, batch: list[_Ended]) -> bool:
        spans = [_span(ended, self._region) for ended in batch]
        scope = ScopeSpans(spans=spans)
        scope.scope.name = "chappe_gateway"
        resource = ResourceSpans(scope_spans=[scope])
        resource.resource.attributes.extend(self._resource)
        body = ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()
        try:
            status = (await self._http.fetch(b"POST", _PATH, _HEADERS, body, timeout_s=_TIMEOUT_S)).status
        except (UpstreamLost, TimeoutError):
            status = 503
        if status in _OK:
            self.sent += len(batch)
        elif status in _TRY_AGAIN and len(self._ended) + len(batch) <= _MAX_WAITING:
            self._ended.extendleft(reversed(batch))
        else:
            self.lost += len(batch)
        if self._failing is (status in _OK):
            self._failing = status not in _OK
            _log.warning("spans_not_taken" if self._failing else "spans_taken_again", status=status)
        return status in _OK


def _span(ended: _Ended, region: str) -> Span:
    trace, parent, event, task, queued_s = ended
    counts = event.counts
    operation = _OPERATIONS[task]
    values: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "chappe",
        "gen_ai.request.model": event.listing,
        "gen_ai.response.model": event.listing,
        "gen_ai.usage.input_tokens": counts.prompt_tokens,
        "gen_ai.usage.output_tokens": counts.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": counts.cached_tokens,
        "chappe.request_id": str(event.request_id),
        "chappe.region": region,
        "chappe.outcome": event.outcome.value,
        "chappe.attempt": event.attempt,
        "chappe.queue_s": queued_s,
    }
    if event.ttft_ms is not None:
        values["gen_ai.response.time_to_first_chunk"] = event.ttft_ms / 1000
    if event.outcome is not Outcome.COMPLETED:
        values["error.type"] = event.outcome.value
    span = Span(
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        trace_state=trace.state.decode("ascii"),
        flags=trace.flags,
        name=f"{operation} {event.listing}",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=_unix_nano(event.started_at),
        end_time_unix_nano=_unix_nano(event.finished_at),
        attributes=_attributes(values),
    )
    if parent is not None:
        span.parent_span_id = parent.span_id
    if event.outcome is Outcome.FAILED:
        span.status.code = Status.STATUS_CODE_ERROR
    return span


def _attributes(values: dict[str, Value]) -> Iterable[KeyValue]:
    return [KeyValue(key=name, value=_any(value)) for name, value in values.items()]


def _any(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)


def _unix_nano(at: datetime) -> int:
    whole, micro = int(at.timestamp()), at.microsecond
    return whole * _NANO + micro * 1000
