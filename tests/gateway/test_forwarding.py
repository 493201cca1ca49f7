"""A model that runs only in another allowed region is served from here: there everything is decided, charged once,
and never by a region that the request does not allow."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import httpx
import msgspec
import pytest
from anthropic import AsyncAnthropic

from chappe_gateway.peers.peer_seal import PeerSeal
from chappe_kernel.api_keys import Pepper
from chappe_kernel.breaker import Breaker
from chappe_kernel.ids import REQUEST, decode_id, new_id
from chappe_kernel.rating import Counts, Outcome
from chappe_kernel.wire.peer import PeerStatus, Ticket
from tests.gateway.fake_control import CHAT, ELSEWHERE_ONLY
from tests.gateway.fault_proxy import FaultProxy
from tests.gateway.scripted_engine import ScriptedEngine
from tests.gateway.servers import free_port
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RawClient, RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"


def body_for(content: str = "hello there", **fields: Any) -> dict[str, Any]:
    return {**chat_body(content, **fields), "model": ELSEWHERE_ONLY}


@dataclass
class Pair:
    """Paris, where clients come, and Frankfurt behind a network that may fail."""

    world: World
    here: RunningGateway
    there: RunningGateway
    engine: ScriptedEngine
    """Frankfurt's. Paris has the world's."""
    network: FaultProxy

    async def ask(self, key: str | None = None, **fields: Any) -> httpx.Response:
        return await self.here.http.post(PATH, json=body_for(**fields), headers=auth(key or self.world.key))

    def knows(self, model: str = ELSEWHERE_ONLY) -> bool:
        seen = self.here.gateway.peers._peers["de-fra"].seen
        return seen is not None and model in seen.deployments


@pytest.fixture
async def pair(world: World) -> AsyncIterator[Pair]:
    engine = ScriptedEngine(free_port(), world.redis_url)
    network = FaultProxy(free_port(), world.ports["de-fra"])
    world.control.gateway_urls["de-fra"] = f"http://127.0.0.1:{network.port}"
    serving = f"http://127.0.0.1:{engine.port}"
    async with (
        engine.running(),
        network.running(),
        world.gateway("de-fra", "gw-2", serving_url=serving) as there,
        world.gateway() as here,
    ):
        pair = Pair(world, here, there, engine, network)
        await until(pair.knows)
        yield pair


@pytest.mark.parametrize("stream", [False, True])
async def test_it_runs_there_under_one_id_and_is_charged_once(pair: Pair, stream: bool) -> None:
    answer = await pair.ask(stream=stream)
    assert answer.status_code == 200
    assert answer.headers["x-chappe-region"] == "de-fra"
    assert answer.text.count(" tok") == 8
    assert "x-ratelimit-limit-requests" in answer.headers
    [event] = await pair.world.events(1)
    assert event.request_id == decode_id(REQUEST, answer.headers["x-request-id"])
    assert (event.outcome, event.counts) == (Outcome.COMPLETED, Counts(6, 0, 8))
    [seen] = pair.engine.generations()
    assert json.loads(seen.body)["request_id"] == answer.headers["x-request-id"]
    assert pair.world.engine.generations() == []
    assert pair.here.gateway.grants.open_holds() == pair.there.gateway.grants.open_holds() == 0
    assert not pair.here.gateway.live
    assert pair.here.gateway.metrics.forwarded == {("de-fra", "answered"): 1}


async def test_clients_packages_do_not_notice(pair: Pair) -> None:
    async with pair.world.openai(pair.here.url) as client:
        stream = await client.chat.completions.create(**body_for(stream=True, stream_options={"include_usage": True}))
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage.completion_tokens == 8
    async with AsyncAnthropic(base_url=pair.here.url, api_key=pair.world.key, max_retries=0) as anthropic:
        message = await anthropic.messages.create(
            model=ELSEWHERE_ONLY, max_tokens=20, messages=[{"role": "user", "content": "hello there"}]
        )
        counted = await anthropic.messages.count_tokens(
            model=ELSEWHERE_ONLY, messages=[{"role": "user", "content": "hello there"}]
        )
    assert (message.usage.output_tokens, counted.input_tokens) == (8, 6)
    path = f"/openai/deployments/{ELSEWHERE_ONLY}/chat/completions?api-version=2024-10-21"
    azure = await pair.here.http.post(path, json=chat_body(), headers={"api-key": pair.world.key})
    assert azure.status_code == 200
    responses = await pair.here.http.post(
        "/v1/responses", json={"model": ELSEWHERE_ONLY, "input": "hi"}, headers=auth(pair.world.key)
    )
    assert responses.json()["status"] == "completed"
    await pair.world.events(4)
    assert pair.world.engine.generations() == []


async def test_limits_are_those_of_where_it_runs(pair: Pair) -> None:
    key = pair.world.control.new_key(pair.world.tenant, requests_per_minute=1)
    assert (await pair.ask(key)).status_code == 200
    refused = await pair.ask(key)
    check_error(refused, 429, "rate_limit_exceeded", region="de-fra")
    assert refused.headers["x-chappe-region"] == "de-fra"
    assert "retry-after" in refused.headers


async def test_errors_come_back_as_they_are(pair: Pair) -> None:
    check_error(await pair.ask(max_tokens=5000), 400, "integer_above_max_value", "max_tokens", region="de-fra")
    pair.engine.script.drop_times = 2
    check_error(await pair.ask(), 503, "engine_error", region="de-fra")
    [event] = await pair.world.events(1)
    assert event.amount_nano == 0
    assert len(pair.engine.generations()) == 2, "what was begun there is not tried elsewhere"


@pytest.mark.parametrize("narrowed_by", ["key", "header"])
async def test_a_region_that_is_not_allowed_is_never_asked(pair: Pair, narrowed_by: str) -> None:
    key, headers = pair.world.key, {}
    if narrowed_by == "key":
        key = pair.world.control.new_key(pair.world.tenant, regions=("fr-par",))
    else:
        headers = {"x-chappe-region": "FR"}
    answer = await pair.here.http.post(PATH, json=body_for(), headers={**auth(key), **headers})
    check_error(answer, 404, "model_not_found", "model")
    assert pair.engine.generations() == []


async def test_a_model_that_fails_here_runs_elsewhere_if_that_is_allowed(pair: Pair) -> None:
    pinned = pair.world.control.new_key(pair.world.tenant, regions=("fr-par",))
    await until(lambda: pair.knows(CHAT))
    breaker = Breaker()
    pair.here.gateway.breakers._breakers[CHAT] = breaker
    now = pair.here.gateway.clock.monotonic()
    for before_s in (0.8, 0.6, 0.4, 0.2, 0.0):
        breaker.failed(now - before_s, 0.99)
    moved = await pair.here.http.post(PATH, json=chat_body(), headers=auth(pair.world.key))
    assert (moved.status_code, moved.headers["x-chappe-region"]) == (200, "de-fra")
    refused = await pair.here.http.post(PATH, json=chat_body(), headers=auth(pinned))
    check_error(refused, 503, "model_unavailable")
    assert len(pair.engine.generations()) == 1


async def test_when_no_region_can_be_reached_it_is_404_with_their_names(pair: Pair) -> None:
    pair.network.cut()
    answer = await pair.ask()
    check_error(answer, 404, "model_not_found", "model")
    assert "de-fra" in answer.json()["error"]["message"]
    await until(lambda: not pair.knows())
    check_error(await pair.ask(), 404, "model_not_found", "model")
    await pair.network.mend()
    await until(pair.knows)
    await until(lambda: pair.here.gateway.peers.breakers.would_pass("de-fra"))
    assert (await pair.ask()).status_code == 200


async def test_a_region_that_does_not_take_it_says_so_and_another_is_tried(pair: Pair) -> None:
    world = pair.world
    milan = FaultProxy(free_port(), 0)
    world.ports["it-mil"] = milan.target = free_port()
    world.control.gateway_urls["it-mil"] = f"http://127.0.0.1:{milan.port}"
    world.control.healthy["it-mil"] = True
    world.control.elsewhere_regions = ("de-fra", "it-mil")
    world.control.changed()
    key = world.control.new_key(world.tenant, regions=("fr-par", "de-fra", "it-mil"))
    serving = f"http://127.0.0.1:{pair.engine.port}"
    async with milan.running(), world.gateway("it-mil", "gw-3", serving_url=serving) as third:
        peers = pair.here.gateway.peers._peers
        await until(lambda: "it-mil" in peers and peers["it-mil"].seen is not None and pair.knows())
        pair.there.gateway.spool._failing = True
        answer = await pair.ask(key)
        assert (answer.status_code, answer.headers["x-chappe-region"]) == (200, "it-mil")
        third.gateway.spool._failing = True
        check_error(await pair.ask(key), 503, "model_unavailable")
        pair.there.gateway.spool._failing = third.gateway.spool._failing = False
    [event] = await world.events(1)
    assert event.request_id == decode_id(REQUEST, answer.headers["x-request-id"])


async def test_a_client_that_leaves_stops_the_engine_there_within_a_second(pair: Pair) -> None:
    pair.engine.script.tokens, pair.engine.script.delay_s = 500, 0.02
    body = json.dumps(body_for(stream=True)).encode()
    async with RawClient.to(pair.here.port) as client:
        client.send_head(PATH, pair.world.key, content_length=str(len(body)))
        client.writer.write(body)
        for _ in range(3):
            await client.reader.readuntil(b'" tok"')
    left_at = time.monotonic()
    await until(lambda: bool(pair.engine.generations()) and pair.engine.generations()[0].closed_at is not None)
    closed_at = pair.engine.generations()[0].closed_at
    assert closed_at is not None
    assert closed_at - left_at < 1
    await until(lambda: not pair.here.gateway.live and not pair.there.gateway.live)
    [event] = await pair.world.events(1)
    assert event.outcome is Outcome.DISCONNECTED


@pytest.mark.parametrize("path", [PATH, "/v1/messages"])
async def test_a_network_that_breaks_in_mid_stream_is_an_error_event(pair: Pair, path: str) -> None:
    pair.engine.script.tokens, pair.engine.script.delay_s = 500, 0.02
    body = body_for(stream=True, max_tokens=600)
    received = b""
    async with pair.here.http.stream("POST", path, json=body, headers=auth(pair.world.key)) as answer:
        async for part in answer.aiter_bytes():
            received += part
            if received.count(b" tok") == 3:
                pair.network.reset()
    events = [event for event in received.split(b"\n\n") if event]
    last = json.loads(events[-1].partition(b"data: ")[2])
    assert "error" in last
    assert all(b"data: " in event for event in events)
    assert len(pair.engine.generations()) == 1, "nothing is begun again"
    [event] = await pair.world.events(1)
    # It is no client that left: our fault is charged as one.
    assert event.outcome is Outcome.FAILED
    assert event.counts.completion_tokens <= pair.engine.generations()[0].sent_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_a_network_that_breaks_before_the_first_token_costs_nothing(pair: Pair, stream: bool) -> None:
    pair.engine.script.first_delay_s = 1.0
    asking = asyncio.create_task(pair.ask(stream=stream))
    await until(lambda: bool(pair.engine.generations()))
    pair.network.reset()
    check_error(await asking, 503, "region_unavailable")
    [event] = await pair.world.events(1)
    assert (event.outcome, event.amount_nano) == (Outcome.FAILED, 0)


async def test_leaving_there_before_the_first_token_costs_what_it_costs_here(pair: Pair) -> None:
    """Forwarding is no way to have a prompt read for nothing."""
    pair.engine.script.delay_s = 0.1
    asking = asyncio.create_task(pair.ask())
    await until(lambda: bool(pair.engine.generations()))
    asking.cancel()
    [event] = await pair.world.events(1)
    assert (event.outcome, event.counts) == (Outcome.DISCONNECTED, Counts(6, 0, 8))


async def test_a_slow_reader_makes_the_engine_there_wait(pair: Pair) -> None:
    pair.engine.script.tokens = 1000
    pair.engine.script.text = "x" * 100_000
    body = json.dumps(body_for(stream=True, max_tokens=1000)).encode()
    async with RawClient.to(pair.here.port, limit=1024) as client:
        client.send_head(PATH, pair.world.key, content_length=str(len(body)))
        client.writer.write(body)
        await client.reader.readexactly(10)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it
        await until(lambda: bool(pair.engine.generations()))
        await asyncio.sleep(0.5)
        assert pair.engine.generations()[0].sent_tokens < 950
    await pair.world.events(1)


async def test_a_key_that_is_revoked_ends_what_runs_there(pair: Pair) -> None:
    pair.engine.script.tokens, pair.engine.script.delay_s = 1000, 0.02
    control = pair.world.control
    body = body_for(stream=True, max_tokens=1000)
    text = ""
    async with pair.here.http.stream("POST", PATH, json=body, headers=auth(pair.world.key)) as answer:
        async for part in answer.aiter_text():
            if not text:
                control.keys[pair.world.key] = msgspec.structs.replace(
                    control.keys[pair.world.key], regions=("fr-par",)
                )
                control.announce(pair.world.tenant)
            text += part
    assert '"error"' in text
    [event] = await pair.world.events(1)
    assert event.counts.completion_tokens < 500


async def test_a_keys_networks_are_held_against_the_clients_own_address(pair: Pair) -> None:
    control = pair.world.control
    for networks, status in ((("127.0.0.0/8",), 200), (("10.0.0.0/8",), 403)):
        key = control.new_key(pair.world.tenant)
        control.keys[key] = msgspec.structs.replace(control.keys[key], networks=networks)
        assert (await pair.ask(key)).status_code == status
    [event] = await pair.world.events(1)
    assert event.client_network == "127.0.0.0/24"


async def test_a_trace_goes_along(pair: Pair) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {**auth(pair.world.key), "traceparent": parent}
    await pair.here.http.post(PATH, json=body_for(), headers=headers)
    assert "4bf92f3577b34da6a3ce929d0e0e4736" in pair.engine.generations()[0].head.decode()


class Forger:
    """Says to Frankfurt what a gateway in Paris might say."""

    def __init__(self, pair: Pair, peppers: tuple[Pepper, ...] | None = None) -> None:
        self.pair = pair
        self.seal = PeerSeal("fr-par")
        self.seal.use(pair.world.control.peppers if peppers is None else peppers)
        self.body = json.dumps(body_for()).encode()

    async def send(self, ticket: Ticket, body: bytes | None = None, to: RunningGateway | None = None) -> httpx.Response:
        headers = {**auth(self.pair.world.key), "x-chappe-peer": self.seal.seal(ticket).decode()}
        headers["content-type"] = "application/json"
        return await (to or self.pair.there).http.post(PATH, content=body or self.body, headers=headers)

    def ticket(self, **changes: Any) -> Ticket:
        ticket = Ticket(new_id(), "fr-par", "de-fra", "127.0.0.1", sha256(self.body).digest())
        return msgspec.structs.replace(ticket, **changes)


async def test_a_forwarded_request_is_taken_once(pair: Pair) -> None:
    forger = Forger(pair)
    ticket = forger.ticket()
    answer = await forger.send(ticket)
    assert answer.status_code == 200
    assert decode_id(REQUEST, answer.headers["x-request-id"]) == ticket.id
    again = await forger.send(ticket)
    check_error(again, 403, "peer_refused", region="de-fra")
    await pair.world.events(1)


@pytest.mark.parametrize("wrong", ["pepper", "target", "origin", "self", "age", "body"])
async def test_what_no_gateway_sent_is_refused(pair: Pair, wrong: str) -> None:
    forger = Forger(pair, (Pepper(1, b"q" * 32),) if wrong == "pepper" else None)
    ticket, body = forger.ticket(), None
    match wrong:
        case "target":
            ticket = forger.ticket(target="fr-par")
        case "origin":
            ticket = forger.ticket(origin="us-east")
        case "self":
            ticket = forger.ticket(origin="de-fra")
        case "age":
            old_ms = int((time.time() - 3600) * 1000)
            old = type(ticket.id)(int=(ticket.id.int & (1 << 80) - 1) | old_ms << 80)
            ticket = forger.ticket(id=old)
        case "body":
            body = json.dumps(body_for("something else")).encode()
    answer = await forger.send(ticket, body)
    check_error(answer, 403, "peer_refused", region="de-fra")
    assert pair.engine.generations() == []
    assert pair.there.gateway.grants.open_holds() == 0


@pytest.mark.parametrize("sealed", [b"", b"\xe9", b"A" * 5000, b"AAAA", b"req_1"])
async def test_what_is_no_ticket_is_refused(pair: Pair, sealed: bytes) -> None:
    headers = [(b"authorization", f"Bearer {pair.world.key}".encode()), (b"x-chappe-peer", sealed)]
    answer = await pair.there.http.post(PATH, json=body_for(), headers=headers)
    check_error(answer, 403, "peer_refused", region="de-fra")


async def test_nothing_is_forwarded_twice(pair: Pair) -> None:
    """Paris gets from Frankfurt what it would have to send on."""
    forger = Forger(pair)
    answer = await forger.send(forger.ticket(origin="de-fra", target="fr-par"), to=pair.here)
    check_error(answer, 404, "model_not_found", "model")
    assert answer.headers["x-chappe-not-admitted"] == "1"
    assert pair.engine.generations() == []


async def test_the_one_who_runs_it_decides_about_regions_itself(pair: Pair) -> None:
    pinned = pair.world.control.new_key(pair.world.tenant, regions=("fr-par",))
    forger = Forger(pair)
    sealed = forger.seal.seal(forger.ticket()).decode()
    headers = {**auth(pinned), "x-chappe-peer": sealed, "content-type": "application/json"}
    answer = await pair.there.http.post(PATH, content=forger.body, headers=headers)
    check_error(answer, 421, "wrong_region", region="de-fra")
    assert answer.headers["x-chappe-not-admitted"] == "1"
    assert pair.engine.generations() == []


async def test_the_status_is_for_gateways_alone(pair: Pair) -> None:
    for headers in ({}, auth(pair.world.key)):
        assert (await pair.there.http.get("/internal/peer", headers=headers)).status_code == 404
    forger = Forger(pair)
    headers = {"x-chappe-peer": forger.seal.seal(forger.ticket()).decode()}
    status = msgspec.json.decode(
        (await pair.there.http.get("/internal/peer", headers=headers)).content, type=PeerStatus
    )
    assert {known.name for known in status.deployments} == {CHAT, ELSEWHERE_ONLY}


async def test_a_repeat_finds_the_region_that_knows_its_key(pair: Pair) -> None:
    headers = {**auth(pair.world.key), "idempotency-key": "once"}
    first = await pair.here.http.post(PATH, json=body_for(), headers=headers)
    second = await pair.here.http.post(PATH, json=body_for(), headers=headers)
    assert first.status_code == 200
    check_error(second, 409, "already_completed", "Idempotency-Key", region="de-fra")
    await pair.world.events(1)
