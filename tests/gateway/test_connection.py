"""The short ways past ASGI say no where they don't fit, and the answer is the same."""

import asyncio
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_gateway.edge import server
from chappe_gateway.engines.events import EngineEvents
from chappe_kernel.wire.engine import END_MARK, START_MARK
from tests.gateway.scripted_engine import Script
from tests.gateway.world import RawClient, World

_PATH = "/v1/chat/completions"


async def test_requests_sent_at_once_on_one_connection_are_answered_in_order(world: World) -> None:
    world.engine.script = Script(tokens=3)
    async with world.gateway() as gateway, RawClient.to(gateway.port) as client:
        client.send_chat(world.key)
        client.send_chat(world.key, stream=True)
        client.send_chat(world.key)
        status, headers = await client.read_head()
        assert status == 200
        whole = await client.reader.readexactly(int(headers["content-length"]))
        assert b'"chat.completion"' in whole
        status, headers = await client.read_head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        assert (await client.reader.readuntil(b"\r\n0\r\n\r\n")).count(b"data: [DONE]") == 1
        status, headers = await client.read_head()
        assert status == 200
        assert len(await client.reader.readexactly(int(headers["content-length"]))) == len(whole)
        await world.events(3)


async def test_a_client_that_leaves_its_second_answer_is_noticed_at_once(world: World) -> None:
    """The first one's end, which comes when the second has begun, does not stop the watching for it."""
    world.engine.script = Script(tokens=500, delay_s=0.02)
    async with world.gateway() as gateway:
        async with RawClient.to(gateway.port) as client:
            client.send_chat(world.key, max_tokens=2)
            client.send_chat(world.key, stream=True)
            _, headers = await client.read_head()
            await client.reader.readexactly(int(headers["content-length"]))
            await client.reader.readuntil(b'" tok"')
        left_at = time.monotonic()
        await world.events(2)
        [_, second] = world.engine.generations()
        assert second.closed_at is not None
        assert second.closed_at - left_at < 1


async def test_a_connection_that_is_idle_for_long_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.gateway() as gateway, RawClient.to(gateway.port) as client:
        monkeypatch.setattr(server, "_KEEP_ALIVE_S", 0.05)
        client.send_chat(world.key)
        status, headers = await client.read_head()
        assert (status, "connection" in headers) == (200, False)
        await client.reader.readexactly(int(headers["content-length"]))
        async with asyncio.timeout(30):
            assert await client.reader.read() == b""


async def test_a_connection_with_a_request_is_not_idle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.gateway() as gateway, RawClient.to(gateway.port) as client:
        monkeypatch.setattr(server, "_KEEP_ALIVE_S", 0.02)
        client.send_chat(world.key)
        # The second one runs when the timer that the first one's answer has set is due.
        world.engine.script = Script(tokens=3, delay_s=0.05)
        client.send_chat(world.key, stream=True)
        _, headers = await client.read_head()
        await client.reader.readexactly(int(headers["content-length"]))
        _, headers = await client.read_head()
        assert b"data: [DONE]" in await client.reader.readuntil(b"\r\n0\r\n\r\n")
        await world.events(2)


async def test_a_client_of_http_1_0_gets_the_whole_answer_and_the_end_of_the_connection(world: World) -> None:
    body = b'{"model":"smollm2-135m-instruct","messages":[{"role":"user","content":"hi"}]}'
    head = f"POST {_PATH} HTTP/1.0\r\nauthorization: Bearer {world.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    async with world.gateway() as gateway, RawClient.to(gateway.port) as client:
        client.writer.write(head.encode() + body)
        status, headers = await client.read_head()
        assert (status, headers["connection"]) == (200, "close")
        assert len(await client.reader.read()) == int(headers["content-length"])
        await world.events(1)


_TEXTS = st.lists(st.text() | st.sampled_from(['"content":"', '"content": ""', '\\"content":"x', ""]), max_size=20)


@given(_TEXTS, st.sampled_from([(",", ":"), (", ", ": ")]))
def test_a_chunk_counts_as_text_if_it_has_any_whatever_models_write(
    texts: list[str], separators: tuple[str, str]
) -> None:
    chunks = [{"choices": [{"delta": {"content": text}}]} for text in texts] + [{"choices": [{"delta": {}}]}]
    written = b"".join(b"data: " + json.dumps(chunk, separators=separators).encode() + b"\n\n" for chunk in chunks)
    events = EngineEvents()
    passed = events.feed(START_MARK + b'{"prompt_tokens":1,"cached_tokens":0}\n\n' + written)
    assert passed == written
    assert events.text_chunks == sum(map(bool, texts))


@given(_TEXTS)
def test_what_comes_with_the_end_counts_the_same(texts: list[str]) -> None:
    chunks = [{"choices": [{"delta": {"content": text}}]} for text in texts]
    start = START_MARK + b'{"prompt_tokens":1,"cached_tokens":0}\n\n'
    written = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    end = END_MARK + b'{"outcome":"completed","counts":{"prompt_tokens":1,"cached_tokens":0,"completion_tokens":0}}\n\n'
    at_once, in_two = EngineEvents(), EngineEvents()
    assert at_once.feed(start + written + end) == written == in_two.feed(start + written)
    assert in_two.feed(end) == b""
    assert at_once.has_text == in_two.has_text == any(texts)
    assert at_once.text_chunks == in_two.text_chunks == sum(map(bool, texts))


@given(_TEXTS, st.sampled_from([(",", ":"), (", ", ": ")]))
def test_events_that_come_one_by_one_count_the_same(texts: list[str], separators: tuple[str, str]) -> None:
    chunks = [{"choices": [{"delta": {"content": text, "tool_calls": [{"arguments": text}]}}]} for text in texts]
    written = [b"data: " + json.dumps(chunk, separators=separators).encode() + b"\n\n" for chunk in chunks]
    start = START_MARK + b'{"prompt_tokens":1,"cached_tokens":0}\n\n'
    at_once, one_by_one = EngineEvents(), EngineEvents()
    assert one_by_one.feed(start) == b""
    assert [one_by_one.feed(event) for event in written] == written
    assert at_once.feed(start + b"".join(written)) == b"".join(written)
    assert at_once.text_chunks == one_by_one.text_chunks
