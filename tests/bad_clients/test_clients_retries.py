"""An answer that is lost after it was charged, and a 5xx that was never charged: the `openai` package asks again by
itself, and there is one charge."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
from openai import APIStatusError, AsyncOpenAI, ConflictError

from chappe_kernel.rating import Outcome
from tests.bad_clients.process import gateway_process
from tests.gateway.servers import free_port
from tests.gateway.world import World, chat_body

KEY = {"Idempotency-Key": "order-23"}
_BAD_GATEWAY = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_MAX_HEAD = 2**16


@dataclass
class LosingProxy:
    """In front of a gateway: it takes so many whole answers for itself, and says 500 in their place."""

    port: int
    gateway_port: int
    loses: int = 1
    lost: list[bytes] = field(default_factory=list)
    asked: int = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["LosingProxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_MAX_HEAD)
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.gateway_port)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            lines[1:1] = [b"connection: close"]
            upstream.write(b"\r\n".join(lines) + await reader.readexactly(length))
            answer = await upstream_reader.read()
            if self.loses > 0:
                self.loses -= 1
                self.lost.append(answer)
                answer = _BAD_GATEWAY
            writer.write(answer)
            await writer.drain()
        writer.close()
        upstream.close()


@contextlib.asynccontextmanager
async def behind_proxy(world: World, loses: int) -> AsyncIterator[tuple[LosingProxy, AsyncOpenAI]]:
    """The package as it comes: it asks again twice."""
    async with gateway_process(world) as gateway:
        proxy = LosingProxy(free_port(), gateway.port, loses)
        url = f"http://127.0.0.1:{proxy.port}/v1"
        async with proxy.running(), AsyncOpenAI(base_url=url, api_key=world.key) as client:
            yield proxy, client
            await gateway.stop()
    assert world.control.pending_nano(world.tenant) == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("loses", [1, 2])
async def test_an_answer_lost_after_it_was_charged_is_given_again_to_the_packages_own_retry(
    world: World, stream: bool, loses: int
) -> None:
    world.control.keys[world.key] = msgspec.structs.replace(world.control.keys[world.key], answers_kept_for_s=3600.0)
    async with behind_proxy(world, loses) as (proxy, client):
        if stream:
            chunks = await client.chat.completions.create(**chat_body(), stream=True, extra_headers=KEY)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        else:
            answer = await client.chat.completions.create(**chat_body(), stream=False, extra_headers=KEY)
            text = answer.choices[0].message.content
        assert text == 8 * " tok"
        assert proxy.asked == 1 + loses
        assert all(lost.startswith(b"HTTP/1.1 200") for lost in proxy.lost)
        [event] = await world.events(1)
    assert (event.outcome, event.counts.completion_tokens) == (Outcome.COMPLETED, 8)
    assert len(world.engine.generations()) == 1


async def test_who_keeps_no_answers_is_told_that_it_was_completed_and_is_not_charged_again(world: World) -> None:
    async with behind_proxy(world, loses=1) as (proxy, client):
        with pytest.raises(ConflictError) as caught:
            await client.chat.completions.create(**chat_body(), extra_headers=KEY)
        assert caught.value.code == "already_completed"
        assert proxy.asked == 2
        await world.events(1)
    assert len(world.engine.generations()) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_5xx_of_ours_after_the_engine_has_worked_is_free_and_its_retry_charged_once(
    world: World, stream: bool
) -> None:
    """Without any key, as the package comes: it sends none on its own retries."""
    world.engine.script.raw = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    async with (
        gateway_process(world) as gateway,
        AsyncOpenAI(base_url=gateway.url + "/v1", api_key=world.key) as client,
    ):
        asking = asyncio.create_task(client.chat.completions.create(**chat_body(), stream=stream))
        async with asyncio.timeout(10):
            while not world.engine.generations():  # noqa: ASYNC110 -- the gateway's work
                await asyncio.sleep(0.01)
        world.engine.script.raw = None
        answer = await asking
        if stream:
            assert len([chunk async for chunk in answer]) > 8  # type: ignore[union-attr]  # it is a stream
        events = await world.events(len(world.engine.generations()))
        await gateway.stop()
    charged = [event for event in events if event.amount_nano]
    assert len(events) > 1
    assert [event.outcome for event in charged] == [Outcome.COMPLETED]


async def test_a_5xx_that_stays_is_never_charged(world: World) -> None:
    world.engine.script.raw = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    async with (
        gateway_process(world) as gateway,
        AsyncOpenAI(base_url=gateway.url + "/v1", api_key=world.key) as client,
    ):
        with pytest.raises(APIStatusError) as caught:
            await client.chat.completions.create(**chat_body())
        assert caught.value.status_code == 503
        events = await world.events(3)
        await gateway.stop()
    assert {event.amount_nano for event in events} == {0}
    assert world.control.pending_nano(world.tenant) == 0
