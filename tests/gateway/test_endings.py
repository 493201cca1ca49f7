"""However a request ends, its hold ends once, and there is one event with the charge that the outcome table says."""

import asyncio
import json
import time

import pytest
from openai import APIError, APIStatusError

from chappe_kernel.rating import NO_COUNTS, Counts, Outcome
from chappe_kernel.wire.engine import EngineError
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RawClient, RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"


async def leave_after(gateway: RunningGateway, world: World, chunks: int) -> None:
    async with RawClient.to(gateway.port) as client:
        client.send_chat(world.key, stream=True)
        for _ in range(chunks):
            await client.reader.readuntil(b'" tok"')


@pytest.mark.parametrize("chunks", [1, 5])
async def test_a_client_that_leaves_aborts_the_engine_and_pays_its_count(
    world: World, gateway: RunningGateway, chunks: int
) -> None:
    world.engine.script.tokens = 500
    world.engine.script.delay_s = 0.02
    await leave_after(gateway, world, chunks)
    left_at = time.monotonic()
    [event] = await world.events(1)
    [seen] = world.engine.generations()
    assert seen.closed_at is not None
    assert seen.closed_at - left_at < 1
    assert event.outcome is Outcome.DISCONNECTED
    assert event.counts == Counts(6, 0, seen.sent_tokens)
    assert event.amount_nano == 6 * 60 + seen.sent_tokens * 210
    assert gateway.gateway.grants.open_holds() == 0
    assert gateway.gateway.live == set()


async def test_without_the_engines_record_the_gateways_own_witness_counts(
    world: World, gateway: RunningGateway
) -> None:
    world.engine.script.tokens = 500
    world.engine.script.delay_s = 0.05
    world.engine.script.write_records = False
    await leave_after(gateway, world, 3)
    [event] = await world.events(1)
    assert event.outcome is Outcome.DISCONNECTED
    assert 3 <= event.counts.completion_tokens <= world.engine.generations()[0].sent_tokens
    assert event.counts.prompt_tokens == 6


async def test_leaving_before_prefill_is_free(world: World, gateway: RunningGateway) -> None:
    world.engine.script.first_delay_s = 0.5
    world.engine.script.write_records = False
    async with RawClient.to(gateway.port) as client:
        client.send_chat(world.key, stream=True)
        await until(lambda: bool(world.engine.generations()))
    [event] = await world.events(1)
    assert event.outcome is Outcome.DISCONNECTED
    assert event.counts == NO_COUNTS
    assert event.amount_nano == 0


async def test_leaving_a_whole_answer_pays_the_engines_record(world: World, gateway: RunningGateway) -> None:
    world.engine.script.delay_s = 0.05
    async with RawClient.to(gateway.port) as client:
        client.send_chat(world.key)
        await until(lambda: bool(world.engine.generations()))
    [event] = await world.events(1)
    assert event.outcome is Outcome.DISCONNECTED
    assert event.counts == Counts(6, 0, 8)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_dies_before_any_text_is_503_and_free(
    world: World, gateway: RunningGateway, stream: bool
) -> None:
    world.engine.script.drop_times = 2
    answer = await gateway.http.post(PATH, json=chat_body(stream=stream), headers=auth(world.key))
    check_error(answer, 503, "engine_error")
    [event] = await world.events(1)
    assert (event.outcome, event.amount_nano, event.counts) == (Outcome.FAILED, 0, NO_COUNTS)


async def test_an_engine_that_dies_in_mid_stream_is_an_error_event_and_pays_what_was_delivered(
    world: World, gateway: RunningGateway
) -> None:
    world.engine.script.die_after = 3
    world.engine.script.delay_s = 0.01
    texts = []
    async with world.openai(gateway.url) as client:
        stream = await client.chat.completions.create(**chat_body(), stream=True)
        with pytest.raises(APIError):
            async for chunk in stream:
                texts += [chunk.choices[0].delta.content]
    assert texts.count(" tok") == 3
    [event] = await world.events(1)
    assert event.outcome is Outcome.FAILED
    assert event.counts == Counts(6, 0, 3)
    assert len(world.engine.generations()) == 1


async def test_a_stream_without_its_end_mark_is_an_engine_that_died(world: World, gateway: RunningGateway) -> None:
    world.engine.script.omit_end = True
    world.engine.script.write_records = False
    answer = await gateway.http.post(PATH, json=chat_body(stream=True), headers=auth(world.key))
    events = answer.text.strip().split("\n\n")
    assert "[DONE]" not in answer.text
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "engine_error"
    [event] = await world.events(1)
    assert (event.outcome, event.counts) == (Outcome.FAILED, Counts(6, 0, 8))


async def test_a_whole_answer_without_its_end_is_503_and_free(world: World, gateway: RunningGateway) -> None:
    world.engine.script.omit_end = True
    answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
    check_error(answer, 503, "engine_error")
    [event] = await world.events(1)
    assert event.amount_nano == 0


@pytest.mark.parametrize("outcome", ["failed", "aborted"])
async def test_an_end_that_is_not_completed_is_our_error(world: World, gateway: RunningGateway, outcome: str) -> None:
    world.engine.script.end_outcome = outcome
    answer = await gateway.http.post(PATH, json=chat_body(stream=True), headers=auth(world.key))
    assert "[DONE]" not in answer.text
    assert '"error"' in answer.text
    [event] = await world.events(1)
    assert (event.outcome, event.counts) == (Outcome.FAILED, Counts(6, 0, 8))


@pytest.mark.parametrize("fault", ["drop_times", "unavailable_times"])
@pytest.mark.parametrize("stream", [False, True])
async def test_one_fault_before_the_first_byte_is_retried_and_charged_once(
    world: World, gateway: RunningGateway, fault: str, stream: bool
) -> None:
    setattr(world.engine.script, fault, 1)
    answer = await gateway.http.post(PATH, json=chat_body(stream=stream), headers=auth(world.key))
    assert answer.status_code == 200
    attempts = [json.loads(seen.body)["attempt"] for seen in world.engine.generations()]
    assert attempts == [1, 2]
    [event] = await world.events(1)
    assert event.outcome is Outcome.COMPLETED


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        ((503, EngineError("overloaded", "secret text")), "overloaded"),
        ((500, EngineError("internal", "secret text")), "engine_error"),
    ],
)
async def test_an_engines_failures_are_free_and_its_inner_words_stay_inside(
    world: World, gateway: RunningGateway, refusal: tuple[int, EngineError], code: str
) -> None:
    world.engine.script.refuse = refusal
    answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
    check_error(answer, 503, code)
    assert "secret" not in answer.text
    [event] = await world.events(1)
    assert event.amount_nano == 0


async def test_back_pressure_is_503_overloaded_and_free(world: World, gateway: RunningGateway) -> None:
    world.engine.script.raw = b"HTTP/1.1 503 X\r\ncontent-length: 35\r\n\r\nRequest dropped due to backpressure"
    answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
    check_error(answer, 503, "overloaded")
    [event] = await world.events(1)
    assert event.amount_nano == 0


async def test_what_the_engine_finds_wrong_is_a_400_without_an_event(world: World, gateway: RunningGateway) -> None:
    world.engine.script.refuse = (400, EngineError("invalid_request", "bad stop", "stop"))
    refused = await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
    check_error(refused, 400, "invalid_request", "stop")
    assert (gateway.gateway.grants.open_holds(), gateway.gateway.live) == (0, set())
    world.engine.script.refuse = None
    await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))
    [event] = await world.events(1)
    assert event.outcome is Outcome.COMPLETED


async def test_a_charge_never_exceeds_its_hold(world: World, gateway: RunningGateway) -> None:
    world.engine.script.extra_tokens = 50
    world.engine.script.tokens = 4
    answer = await gateway.http.post(PATH, json=chat_body(max_tokens=4), headers=auth(world.key))
    assert answer.status_code == 200
    [event] = await world.events(1)
    assert event.counts.completion_tokens == 4
    assert event.amount_nano <= event.hold_nano


async def test_a_silent_engine_is_cut_and_the_client_told(world: World) -> None:
    world.engine.script.stall_after = 2
    async with world.gateway(idle_s=0.3) as gateway:
        answer = await gateway.http.post(PATH, json=chat_body(stream=True), headers=auth(world.key))
        assert "silent" in answer.text
        [event] = await world.events(1)
    assert event.outcome is Outcome.FAILED
    assert event.counts.completion_tokens == 2
    assert world.engine.generations()[0].closed_at is not None


async def test_each_of_many_that_fall_silent_is_cut(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few of them are looked at in one go."""
    monkeypatch.setattr("chappe_gateway.gateway._WATCHED_AT_ONCE", 2)
    world.engine.script.stall_after = 2
    async with world.gateway(idle_s=0.3) as gateway:
        asked = [gateway.http.post(PATH, json=chat_body(stream=True), headers=auth(world.key)) for _ in range(7)]
        assert all("silent" in answer.text for answer in await asyncio.gather(*asked))
        assert {event.outcome for event in await world.events(7)} == {Outcome.FAILED}


async def test_streams_are_cut_when_their_grant_must_be_settled(world: World) -> None:
    world.control.admit_s, world.control.settle_s = 0.5, 0.8
    world.engine.script.tokens = 500
    world.engine.script.delay_s = 0.02
    async with world.gateway() as gateway:
        started = time.monotonic()
        answer = await gateway.http.post(PATH, json=chat_body(stream=True), headers=auth(world.key))
        assert time.monotonic() - started < 2.5
        assert "time_limit" in answer.text
        [event] = await world.events(1)
    assert event.outcome is Outcome.FAILED
    assert 0 < event.counts.completion_tokens < 100


async def test_a_reader_that_stalls_counts_as_disconnected_and_is_bounded(world: World) -> None:
    world.engine.script.tokens = 1000
    world.engine.script.text = "x" * 20_000
    async with world.gateway(stall_s=0.5) as gateway, RawClient.to(gateway.port, limit=1024) as client:
        client.send_chat(world.key, stream=True, max_tokens=1000)
        await client.reader.readexactly(10)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it
        await until(lambda: bool(world.engine.generations()))
        # 20 MB were to come; the buffers between hold a part, and the engine is made to wait.
        await asyncio.sleep(0.3)
        assert world.engine.generations()[0].sent_tokens < 900
        [event] = await world.events(1)
        assert event.outcome is Outcome.DISCONNECTED
        assert gateway.gateway.live == set()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\ndata: \r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\ndata: {}\n\nxyz",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nxy",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x-a: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\noops",
    ],
)
async def test_engines_that_break_the_protocol_are_503_and_free(
    world: World, gateway: RunningGateway, raw: bytes
) -> None:
    world.engine.script.raw = raw
    if b"xy" in raw[-2:]:
        world.engine.script.drop_times = 0
    async with world.gateway("de-fra", "gw-2", idle_s=0.4) as other:
        answer = await other.http.post(PATH, json=chat_body(stream=True), headers=auth(world.key))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "engine_error"
    [event] = await world.events(1)
    assert event.amount_nano == 0
    assert gateway.gateway.grants.open_holds() == 0


async def test_usage_of_zero_stays_zero(world: World, gateway: RunningGateway) -> None:
    world.engine.script.tokens = 0
    async with world.openai(gateway.url) as client:
        stream = await client.chat.completions.create(
            **chat_body(), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 0
    [event] = await world.events(1)
    assert event.counts == Counts(6, 0, 0)
    assert event.amount_nano == 6 * 60


async def test_the_openai_package_raises_its_own_errors(world: World, gateway: RunningGateway) -> None:
    async with world.openai(gateway.url) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.chat.completions.create(**chat_body(max_tokens=4000))
    assert caught.value.status_code == 400
    assert caught.value.code == "integer_above_max_value"
