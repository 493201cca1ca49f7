"""The engine's HTTP edge over real sockets: the wire contract, and what a vanished client leaves behind."""

import asyncio
import base64
import time

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chappe_kernel.wire.engine import (
    END_HEADER,
    END_MARK,
    START_MARK,
    CountReply,
    CountRequest,
    End,
    EngineError,
    EngineHealth,
    Message,
    Start,
)
from chappe_serving.attempt_run import RECORD_EVERY_S
from chappe_serving.engines.registry import build_engine
from tests.serving.conftest import RegionRedis, Served, chat, embedding, served


async def post(url: str, body: object) -> httpx.Response:
    async with httpx.AsyncClient(timeout=100) as client:
        return await client.post(url, content=body if isinstance(body, bytes) else msgspec.json.encode(body))


def events_of(content: bytes) -> list[bytes]:
    *events, rest = content.split(b"\n\n")
    assert rest == b""
    return events


async def test_a_stream_is_openais_events_between_two_marks(llama_server: Served) -> None:
    request = chat("What is the capital of France?", stream=True, include_usage=True)
    reply = await post(f"{llama_server.url}/generate", request)
    assert reply.headers["content-type"] == "text/event-stream"
    first, *chunks, last = events_of(reply.content)
    start = msgspec.json.decode(first.removeprefix(START_MARK), type=Start)
    end = msgspec.json.decode(last.removeprefix(END_MARK), type=End)
    decoded = [msgspec.json.decode(chunk.removeprefix(b"data: ")) for chunk in chunks]
    assert decoded[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert decoded[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert all(chunk["id"] == f"chatcmpl-{request.request_id}" for chunk in decoded)
    assert all(chunk["usage"] is None and chunk["object"] == "chat.completion.chunk" for chunk in decoded)
    assert "Paris" in "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in decoded)
    assert end.outcome == "completed"
    assert end.counts.prompt_tokens == start.prompt_tokens
    assert (await llama_server.redis.final_record(request.request_id)).end == end


async def test_without_include_usage_no_chunk_speaks_of_it(simulated_server: Served) -> None:
    reply = await post(f"{simulated_server.url}/generate", chat("hello", stream=True))
    assert b'"usage"' not in reply.content


async def test_one_piece_has_usage_and_its_end_in_a_header(llama_server: Served) -> None:
    request = chat("What is the capital of France?")
    reply = await post(f"{llama_server.url}/generate", request)
    body, end = reply.json(), msgspec.json.decode(reply.headers[END_HEADER], type=End)
    assert body["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {
        "prompt_tokens": end.counts.prompt_tokens,
        "completion_tokens": end.counts.completion_tokens,
        "total_tokens": end.counts.prompt_tokens + end.counts.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_is_aborted_within_a_second_and_recorded(llama_server: Served, stream: bool) -> None:
    request = chat("Tell a very long story about the sea.", max_tokens=800, stream=stream)
    asking = asyncio.create_task(post(f"{llama_server.url}/generate", request))
    await llama_server.redis.reports(request.request_id, 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    left_at = time.monotonic()
    while llama_server.engine.load().running:  # noqa: ASYNC110  # the engine tells nobody
        await asyncio.sleep(0.01)
    assert time.monotonic() - left_at < 1.0
    record = await llama_server.redis.final_record(request.request_id)
    assert record.end is not None
    assert record.end.outcome == "aborted"
    assert 0 < record.end.counts.completion_tokens < 800


async def test_records_come_while_it_generates_and_never_fall(region_redis: RegionRedis) -> None:
    engine = build_engine("simulated", {"decode_tokens_per_s": 100, "answer_tokens": 1000})
    request = chat("a story of the sea", max_tokens=1000, stream=True, slip="sealed by a gateway")
    async with served(engine, region_redis, record_every_s=0.1) as server:
        running = asyncio.create_task(post(f"{server.url}/generate", request))
        await region_redis.reports(request.request_id, 3)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        last = await region_redis.final_record(request.request_id)
    records = [each for each in await region_redis.records() if each.request_id == request.request_id]
    done = [each.counts.completion_tokens for each in records]
    assert {each.slip for each in records} == {request.slip}
    assert done == sorted(done)
    assert done[0] < done[-1]
    assert records[-1] == last
    assert last.end is not None
    assert last.end.outcome == "aborted"
    assert [each.end for each in records[:-1]] == [None] * (len(records) - 1)


def test_in_production_a_record_comes_each_second() -> None:
    assert RECORD_EVERY_S == 1.0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
    stop_after=st.integers(0, 12),
)
async def test_whatever_happens_there_is_exactly_one_final_record(
    simulated_server: Served, text: str, stop_after: int
) -> None:
    request = chat(text, max_tokens=20, stream=True)
    ends = 0
    async with (
        httpx.AsyncClient() as client,
        client.stream("POST", f"{simulated_server.url}/generate", content=msgspec.json.encode(request)) as reply,
    ):
        seen = 0
        async for data in reply.aiter_bytes():
            ends += data.count(END_MARK)
            seen += 1
            if seen > stop_after:
                break
    record = await simulated_server.redis.final_record(request.request_id)  # which sees to it that there is one
    assert record.end is not None
    assert ends <= 1
    assert record.counts == record.end.counts


async def test_twelve_at_once_all_get_a_whole_answer(llama_server: Served) -> None:
    requests = [chat(f"What is {number} plus one?", stream=True, max_tokens=10) for number in range(12)]
    replies = await asyncio.gather(*(post(f"{llama_server.url}/generate", request) for request in requests))
    for reply in replies:
        end = msgspec.json.decode(events_of(reply.content)[-1].removeprefix(END_MARK), type=End)
        assert end.outcome == "completed"


async def test_base64_is_the_same_floats(e5_server: Served) -> None:
    floats = (await post(f"{e5_server.url}/embed", embedding("hello", "bonjour"))).json()
    packed = await post(f"{e5_server.url}/embed", embedding("hello", "bonjour", encoding_format="base64"))
    for index in range(2):
        decoded = np.frombuffer(base64.b64decode(packed.json()["data"][index]["embedding"]), dtype="<f4")
        assert decoded.tolist() == floats["data"][index]["embedding"]
        assert floats["data"][index]["index"] == index
    end = msgspec.json.decode(packed.headers[END_HEADER], type=End)
    assert floats["usage"] == {"prompt_tokens": end.counts.prompt_tokens, "total_tokens": end.counts.prompt_tokens}


async def test_an_embedding_is_recorded(e5_server: Served) -> None:
    request = embedding("hello")
    reply = await post(f"{e5_server.url}/embed", request)
    record = await e5_server.redis.final_record(request.request_id)
    assert record.end == msgspec.json.decode(reply.headers[END_HEADER], type=End)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("generate", b"{", 400, "invalid_request"),
        ("generate", b"[]", 400, "invalid_request"),
        ("generate", b'"\xff"', 400, "invalid_request"),
        ("generate", msgspec.json.encode(chat("a\0b")), 400, "invalid_request"),
        ("generate", msgspec.json.encode(chat("MARK")).replace(b"MARK", b"\\ud800"), 400, "invalid_request"),
        ("generate", msgspec.json.encode(chat("word " * 3000)), 400, "context_length_exceeded"),
        ("generate", msgspec.json.encode(chat("hello", messages=())), 400, "invalid_request"),
        ("embed", msgspec.json.encode(embedding("hello")), 400, "invalid_request"),
        ("generate", b" " * (5 * 1024 * 1024), 413, "invalid_request"),
        ("nonsense", b"{}", 404, "invalid_request"),
    ],
)
async def test_bad_requests_are_refused_in_the_wires_own_shape(
    llama_server: Served, path: str, body: bytes, status: int, code: str
) -> None:
    reply = await post(f"{llama_server.url}/{path}", body)
    error = msgspec.json.decode(reply.content, type=EngineError)
    assert (reply.status_code, error.code) == (status, code)
    assert "MARK" not in error.message


async def test_counting_runs_nothing(llama_server: Served) -> None:
    asked = CountRequest(messages=(Message("user", "What is the capital of France?"),))
    reply = await post(f"{llama_server.url}/count", asked)
    counted = msgspec.json.decode(reply.content, type=CountReply).prompt_tokens
    answered = await post(f"{llama_server.url}/generate", chat("What is the capital of France?", max_tokens=1))
    assert counted == answered.json()["usage"]["prompt_tokens"]


async def test_health_says_what_runs(e5_server: Served) -> None:
    async with httpx.AsyncClient() as client:
        reply = await client.get(f"{e5_server.url}/health")
    assert msgspec.json.decode(reply.content, type=EngineHealth) == EngineHealth("e5", 512, 0)
