"""Spans go to the collector that is configured, after the conventions, and hold nothing that anybody said."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from chappe_kernel.ids import REQUEST, decode_id
from tests.gateway.fake_control import CHAT, EMBEDDINGS
from tests.gateway.servers import app_config, free_port, serving
from tests.gateway.world import RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass
class Collector:
    """Takes OTLP over HTTP."""

    port: int
    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        assert (scope["method"], scope["path"]) == ("POST", "/v1/traces")
        assert dict(scope["headers"])[b"content-type"] == b"application/x-protobuf"
        if self.status == 200:
            self.bodies.append(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
                assert names["service.name"] == "chappe-gateway"
                self.spans += [span for scope_spans in resource.scope_spans for span in scope_spans.spans]
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector(free_port())
    async with serving(app_config(collector, collector.port)):
        yield collector


@pytest.fixture
async def traced(world: World, collector: Collector) -> AsyncIterator[RunningGateway]:
    async with world.gateway(otlp_url=f"http://127.0.0.1:{collector.port}") as gateway:
        yield gateway


def attributes(span: Span) -> dict[str, Any]:
    found = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        found[attribute.key] = getattr(attribute.value, kind)
    return found


async def test_a_request_is_a_span_below_its_clients(
    world: World, traced: RunningGateway, collector: Collector
) -> None:
    headers = {**auth(world.key), "traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "rojo=1"}
    world.engine.script.cached = 2
    answer = await traced.http.post(PATH, json=chat_body(stream=True), headers=headers)
    await until(lambda: bool(collector.spans))
    [span] = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE, SPAN, "rojo=1")
    assert (span.name, span.kind) == (f"chat {CHAT}", Span.SPAN_KIND_CLIENT)
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 10 * 10**9
    seen = attributes(span)
    assert seen["gen_ai.response.time_to_first_chunk"] > 0
    del seen["gen_ai.response.time_to_first_chunk"], seen["chappe.queue_s"]
    assert seen == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "chappe",
        "gen_ai.request.model": CHAT,
        "gen_ai.response.model": CHAT,
        "gen_ai.usage.input_tokens": 6,
        "gen_ai.usage.output_tokens": 8,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "chappe.request_id": str(decode_id(REQUEST, answer.headers["x-request-id"])),
        "chappe.region": "fr-par",
        "chappe.outcome": "completed",
        "chappe.attempt": 1,
    }
    head = world.engine.generations()[0].head.decode()
    assert f"traceparent: 00-{TRACE}-{span.span_id.hex()}-01\r\n" in head


async def test_without_a_client_trace_one_begins(world: World, traced: RunningGateway, collector: Collector) -> None:
    body = {"model": EMBEDDINGS, "input": "hello"}
    assert (await traced.http.post("/v1/embeddings", json=body, headers=auth(world.key))).status_code == 200
    await until(lambda: bool(collector.spans))
    [span] = collector.spans
    assert (span.name, span.parent_span_id) == (f"embeddings {EMBEDDINGS}", b"")
    assert span.trace_id.hex() in world.engine.generations()[0].head.decode()


async def test_a_failure_is_one(world: World, traced: RunningGateway, collector: Collector) -> None:
    world.engine.script.drop_times = 2
    await traced.http.post(PATH, json=chat_body(), headers=auth(world.key))
    await until(lambda: bool(collector.spans))
    assert collector.spans[0].status.code == Status.STATUS_CODE_ERROR
    assert attributes(collector.spans[0])["error.type"] == "failed"


async def test_nothing_that_anybody_said_is_in_a_span(
    world: World, traced: RunningGateway, collector: Collector
) -> None:
    world.engine.script.text = " an answer"
    headers = {**auth(world.key), "baggage": "who=me-myself", "idempotency-key": "my-own-key"}
    await traced.http.post(PATH, json=chat_body("what only I know", user="my-user"), headers=headers)
    await until(lambda: bool(collector.bodies))
    for secret in (b"what only I know", b"an answer", b"my-user", b"me-myself", b"my-own-key", world.key.encode()):
        assert secret not in collector.bodies[0]
    assert world.tenant.bytes not in collector.bodies[0]
    assert str(world.tenant).encode() not in collector.bodies[0]


async def test_a_ratio_records_a_part_whatever_clients_ask_for(world: World, collector: Collector) -> None:
    async with world.gateway(otlp_url=f"http://127.0.0.1:{collector.port}", otlp_ratio=0.5) as gateway:
        for last in ("00", "ff"):
            headers = {**auth(world.key), "traceparent": f"00-{TRACE[:18]}{last}{TRACE[20:]}-{SPAN}-01"}
            await gateway.http.post(PATH, json=chat_body(), headers=headers)
        await until(lambda: bool(collector.spans))
        assert gateway.gateway.spans is not None
        assert gateway.gateway.spans.waiting == 0
    assert [span.trace_id.hex()[18:20] for span in collector.spans] == ["00"]
    heads = [seen.head.decode().lower() for seen in world.engine.generations()]
    lines = [line for head in heads for line in head.split("\r\n") if line.startswith("traceparent: ")]
    assert [line[-2:] for line in lines] == ["01", "00"]


async def test_a_collector_that_is_away_costs_requests_nothing_and_gets_them_later(
    world: World, traced: RunningGateway, collector: Collector
) -> None:
    collector.status = 503
    for _ in range(3):
        assert (await traced.http.post(PATH, json=chat_body(), headers=auth(world.key))).status_code == 200
    spans = traced.gateway.spans
    assert spans is not None
    await spans.flush()
    assert (spans.waiting, spans.lost) == (3, 0)
    collector.status = 200
    await spans.flush()
    assert len(collector.spans) == spans.sent == 3
    collector.status = 400
    await traced.http.post(PATH, json=chat_body(), headers=auth(world.key))
    await until(lambda: spans.waiting > 0 or spans.lost > 0)
    await spans.flush()
    assert (spans.waiting, spans.lost) == (0, 1)


async def test_a_stop_sends_what_is_left(world: World, collector: Collector) -> None:
    async with world.gateway(otlp_url=f"http://127.0.0.1:{collector.port}") as gateway:
        await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
    assert len(collector.spans) == 1


async def test_without_an_endpoint_there_is_nothing(world: World, gateway: RunningGateway) -> None:
    await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
    assert gateway.gateway.spans is None
