"""Whatever an engine sends, its client gets a stream that its API's readers can read, which ends or says why not; what
is charged is bounded by what was delivered, and a count of zero stays zero."""

import asyncio
import json
from typing import Any

import httpx
import msgspec
import pytest

from chappe_kernel.ids import REQUEST, encode_id
from chappe_kernel.rating import NO_COUNTS, Counts, Outcome
from chappe_kernel.wire.engine import END_MARK, START_MARK, End, Start
from tests.gateway.conftest import gateway
from tests.gateway.fake_control import CHAT
from tests.gateway.world import RunningGateway, World, auth, chat_body

__all__ = ["gateway"]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
START = START_MARK + msgspec.json.encode(Start(6, 0)) + b"\n\n"
_HI: list[dict[str, str]] = [{"role": "user", "content": "hi"}]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {**chat_body(), "stream_options": {"include_usage": True}},
    "/v1/completions": {"model": CHAT, "prompt": "hi", "stream_options": {"include_usage": True}},
    "/v1/messages": {"model": CHAT, "messages": _HI, "max_tokens": 64},
    "/v1/responses": {"model": CHAT, "input": "hi"},
}


def end(counts: Counts, outcome: Any = "completed") -> bytes:
    return END_MARK + msgspec.json.encode(End(outcome, counts, "stop")) + b"\n\n"


def chunk(text: str = " tok", finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if finish is None else {}, "finish_reason": finish}
    told = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": CHAT, "choices": [choice]}
    return b"data: " + json.dumps(told).encode() + b"\n\n"


COMPLETE = [START, chunk(), chunk(), chunk("", "stop")]
COMPLETED = end(Counts(6, 0, 2))
BAD_STREAMS: dict[str, list[bytes]] = {
    "no event": [START, chunk(), b"nonsense\n\n", COMPLETED],
    "another field": [START, chunk(), b"event: x\ndata: {}\n\n", COMPLETED],
    "an end of OpenAI's": [START, chunk(), b"data: [DONE]\n\n", COMPLETED],
    "no JSON": [START, chunk(), b"data: \xff\xfe\n\n", COMPLETED],
    "half an object": [START, chunk(), b'data: {"choices":[\n\n', COMPLETED],
    "a NUL": [START, chunk(), b"\0\n\n", COMPLETED],
    "lines that end in CRLF": [START, chunk(), chunk().replace(b"\n", b"\r\n"), COMPLETED.replace(b"\n", b"\r\n")],
    "an endless event": [START, chunk(), b"data: {" + b"x" * 300_000],
    "another start": [START, chunk(), START, COMPLETED],
    "no start": [chunk(), COMPLETED],
    "a start that is none": [START_MARK + b"{}\n\n", chunk(), COMPLETED],
    "no end": [*COMPLETE],
    "an end that is none": [*COMPLETE, END_MARK + b'{"outcome":"completed"}\n\n'],
    "counts below zero": [*COMPLETE, END_MARK + b'{"outcome":"completed","counts":[6,0,-2]}\n\n'],
    "counts that are texts": [*COMPLETE, END_MARK + b'{"outcome":"completed","counts":["6","0","2"]}\n\n'],
    "counts beyond any number": [*COMPLETE, END_MARK + b'{"outcome":"completed","counts":[6,0,1e999]}\n\n'],
    "more cached than there is": [*COMPLETE, END_MARK + b'{"outcome":"completed","counts":[6,7,2]}\n\n'],
    "an end that failed": [*COMPLETE, end(Counts(6, 0, 2), "failed")],
}


def whole(*events: bytes) -> bytes:
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


async def ask(gateway: RunningGateway, world: World, path: str) -> httpx.Response:
    return await gateway.http.post(path, json={**ASKED[path], "stream": True}, headers=auth(world.key))


def read_stream(path: str, text: str) -> list[Any]:
    """Its events as a strict reader of the API finds them."""
    blocks = text.split("\n\n")
    assert blocks.pop() == "", "the last event has no end"
    events = []
    for block in blocks:
        lines = block.split("\n")
        if path in ("/v1/messages", "/v1/responses"):
            name, data = lines
            event = json.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
        else:
            [data] = lines
            assert data.startswith("data: ")
            event = None if data == "data: [DONE]" else json.loads(data.removeprefix("data: "))
        events.append(event)
    return events


def is_failure(path: str, event: Any) -> bool:
    if path == "/v1/responses":
        return bool(event["type"] == "response.failed")
    return event is not None and "error" in event


@pytest.mark.parametrize("fault", BAD_STREAMS)
async def test_a_bad_stream_ends_with_its_apis_own_error_and_no_more_is_charged_than_was_delivered(
    world: World, gateway: RunningGateway, fault: str
) -> None:
    world.engine.script.raw = whole(*BAD_STREAMS[fault])
    answers = await asyncio.gather(*(ask(gateway, world, path) for path in ASKED))
    events = {encode_id(REQUEST, event.request_id): event for event in await world.events(len(ASKED))}
    for path, answer in zip(ASKED, answers, strict=True):
        event = events[answer.headers["x-request-id"]]
        assert event.outcome is Outcome.FAILED, path
        assert event.counts.completion_tokens <= delivered_by(path, answer), path
        assert event.counts == NO_COUNTS or event.counts.prompt_tokens == 6
    assert (gateway.gateway.grants.open_holds(), gateway.gateway.live) == (0, set())


def delivered_by(path: str, answer: httpx.Response) -> int:
    """How many texts its client got, in a stream that ends with an error, and has none before."""
    if answer.status_code != httpx.codes.OK:
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        return 0
    events = read_stream(path, answer.text)
    assert is_failure(path, events[-1])
    assert not any(is_failure(path, event) or event is None for event in events[:-1])
    # Other events of the Responses API repeat the text; of one read they have one delta.
    deltas = [event["delta"] for event in events if event is not None and isinstance(event.get("delta"), str)]
    return ("".join(deltas) if path == "/v1/responses" else answer.text).count("tok")


@pytest.mark.parametrize("path", ASKED)
async def test_an_engine_that_tells_no_usage_in_its_chunks_has_it_told_from_its_end(
    world: World, gateway: RunningGateway, path: str
) -> None:
    world.engine.script.raw = whole(*COMPLETE, COMPLETED, chunk(" late"), b"nonsense")
    answer = await ask(gateway, world, path)
    events = read_stream(path, answer.text)
    assert not any(is_failure(path, event) for event in events if event is not None)
    assert usage_in(path, events) == (6, 2)
    assert "late" not in answer.text
    [event] = await world.events(1)
    assert (event.outcome, event.counts) == (Outcome.COMPLETED, Counts(6, 0, 2))


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("prompt_tokens", [6, 0])
async def test_a_usage_of_zero_stays_zero_in_every_api(
    world: World, gateway: RunningGateway, path: str, prompt_tokens: int
) -> None:
    """Texts were delivered, and the engine counts none: no estimate takes the count's place."""
    start = START_MARK + msgspec.json.encode(Start(prompt_tokens, 0)) + b"\n\n"
    world.engine.script.raw = whole(start, chunk(), chunk("", "stop"), end(Counts(prompt_tokens, 0, 0)))
    answer = await ask(gateway, world, path)
    assert usage_in(path, read_stream(path, answer.text)) == (prompt_tokens, 0)
    [event] = await world.events(1)
    assert (event.outcome, event.counts) == (Outcome.COMPLETED, Counts(prompt_tokens, 0, 0))
    assert event.amount_nano == prompt_tokens * 60


def usage_in(path: str, events: list[Any]) -> tuple[int, int]:
    """Prompt and completion tokens, as the client is told."""
    match path:
        case "/v1/messages":
            usage = events[-2]["usage"]
        case "/v1/responses":
            usage = events[-1]["response"]["usage"]
        case _:
            usage = events[-2]["usage"]
            return usage["prompt_tokens"], usage["completion_tokens"]
    return usage["input_tokens"], usage["output_tokens"]
