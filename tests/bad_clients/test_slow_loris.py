"""Clients that say nothing, or a byte now and then: their connections are bounded in number and time, health stays
green, and whoever asks is served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from chappe_gateway.edge.crowd import Crowd
from chappe_kernel.networks import parse_networks
from tests.bad_clients.answers import read_answers
from tests.bad_clients.neighbour import asking, neighbour
from tests.bad_clients.process import GatewayProcess, gateway_process
from tests.gateway.world import RawClient, World, auth, chat_body, until

HELD = 100
SLOW_CLIENTS = 400
HEAD_TIMEOUT_S = 1.5
BODY_TIMEOUT_S = 1.5
_DRIP_S = 0.2
_SETTINGS = {
    "MAX_CONNECTIONS": str(HELD),
    "HEAD_TIMEOUT_S": str(HEAD_TIMEOUT_S),
    "BODY_TIMEOUT_S": str(BODY_TIMEOUT_S),
}
_SLACK_S = 5.0
"""For a machine that is busy with other tests."""


@contextlib.asynccontextmanager
async def clients(gateway: GatewayProcess, count: int) -> AsyncIterator[list[RawClient]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(RawClient.to(gateway.port)) for _ in range(count)]


async def drip(client: RawClient, data: bytes) -> None:
    """A byte at a time, until the gateway closes."""
    with contextlib.suppress(ConnectionError):
        for byte in data * 1000:
            client.writer.write(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(_DRIP_S)
            if client.reader.at_eof():
                return


async def all_of(client: RawClient) -> bytes:
    """What it gets until its connection ends."""
    received = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(HEAD_TIMEOUT_S + BODY_TIMEOUT_S + _SLACK_S):
            while part := await client.reader.read(4096):
                received += part
    return received


async def closed_after_s(client: RawClient) -> float:
    began = asyncio.get_running_loop().time()
    await all_of(client)
    return asyncio.get_running_loop().time() - began


@pytest.mark.alone
@pytest.mark.parametrize("said", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx: y"])
async def test_hundreds_of_slow_heads_leave_room_for_those_who_ask(world: World, said: bytes) -> None:
    async with gateway_process(world, **_SETTINGS) as gateway, neighbour(world, gateway) as good:
        alone_s = await good.baseline()
        async with asking(good, gateway), clients(gateway, SLOW_CLIENTS) as slow:
            dripping = [asyncio.create_task(drip(client, said)) for client in slow if said]
            for _ in range(10):
                assert gateway.connections() <= HELD
                await asyncio.sleep(0.1)
            await asyncio.gather(*dripping)
            # Nobody has got more than his time, however he spent it.
            await until(lambda: gateway.connections() <= 10, HEAD_TIMEOUT_S + _SLACK_S)
        good.check(alone_s)


@pytest.mark.alone
async def test_slow_bodies_are_given_up_and_cost_nothing(world: World) -> None:
    """Whoever has a key may send a body, at its own pace, for so long; without one nobody waits for it."""
    async with gateway_process(world, **_SETTINGS) as gateway, neighbour(world, gateway) as good:
        alone_s = await good.baseline()
        async with asking(good, gateway), clients(gateway, HELD // 2) as slow:
            for number, client in enumerate(slow):
                client.send_head("/v1/chat/completions", world.key if number % 2 else "nobody", content_length="9999")
            reading = [asyncio.create_task(all_of(client)) for client in slow]
            await asyncio.gather(*(drip(client, b"{") for client in slow))
            answers = [read_answers(await told)[0] for told in reading]
            assert gateway.connections() <= 10
        good.check(alone_s)
        assert {answer.status for told in answers[1::2] for answer in told} <= {400}
        assert {answer.status for told in answers[::2] for answer in told} <= {401}
        assert sum(map(len, answers)) >= HELD // 4
    assert world.control.pending_nano(world.tenant) == 0


@pytest.mark.parametrize("said", [b"", b"\r\n", b"GET"])
async def test_a_connection_that_had_its_answer_is_not_kept_for_ever(world: World, said: bytes) -> None:
    async with gateway_process(world, **_SETTINGS) as gateway, RawClient.to(gateway.port) as client:
        client.writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        status, headers = await client.read_head()
        await client.reader.readexactly(int(headers["content-length"]))
        assert status == 200
        if said:
            dripping = asyncio.create_task(drip(client, said))
            assert await closed_after_s(client) < HEAD_TIMEOUT_S + _SLACK_S
            await dripping
        else:
            # It is idle, which is no fault: it is let go when there are too many, and others first.
            async with clients(gateway, HELD - 1):
                client.writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
                assert (await client.read_head())[0] == 200


async def test_streams_are_not_closed_for_those_who_come_after_them(world: World) -> None:
    world.engine.script.tokens, world.engine.script.delay_s = 60, 0.05
    async with (
        gateway_process(world, **_SETTINGS | {"MAX_CONNECTIONS": "10"}) as gateway,
        clients(gateway, 10) as streams,
    ):
        for client in streams:
            client.send_chat(world.key, stream=True)
        for client in streams:
            assert (await client.read_head())[0] == 200
        async with clients(gateway, 20) as late:
            assert all([await closed_after_s(client) < _SLACK_S for client in late])
        for client in streams:
            assert b"data: [DONE]" in await client.reader.readuntil(b"0\r\n\r\n")
        await world.events(10)


async def test_one_address_has_its_bound_and_a_proxy_has_none(world: World) -> None:
    bound = {"MAX_CONNECTIONS_PER_ADDRESS": "5"}
    async with gateway_process(world, **_SETTINGS | bound) as gateway, clients(gateway, 20) as held:
        await until(lambda: gateway.connections() == 5)
        other = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=other) as neighbour_elsewhere:
            answer = await neighbour_elsewhere.post(
                f"{gateway.url}/v1/chat/completions", json=chat_body(), headers=auth(world.key)
            )
            assert answer.status_code == 200
        for client in held:
            client.writer.close()
        await until(lambda: gateway.connections() == 0)
        async with httpx.AsyncClient() as http:
            assert await gateway.health(http) == 200
    proxies = {"TRUSTED_PROXIES": "127.0.0.0/8"}
    async with gateway_process(world, **_SETTINGS | bound | proxies) as gateway, clients(gateway, 20):
        await until(lambda: gateway.connections() == 20)


class _Client:
    """A connection as the crowd sees it."""

    def __init__(self, peer: str | None, idle: tuple[bool, float] | None) -> None:
        self.peer = peer
        self._idle = idle
        self.aborted = False

    def idle_since(self) -> tuple[bool, float] | None:
        return self._idle

    def abort(self) -> None:
        self.aborted = True


def test_who_never_asked_goes_first_then_who_is_idle_longest_and_nobody_who_is_served() -> None:
    crowd = Crowd(4)
    served, idle, silent, newer = (_Client("a", idle) for idle in (None, (True, 1.0), (False, 2.0), (False, 3.0)))
    assert all(crowd.enter(one) for one in (served, idle, silent, newer))
    gone: list[Any] = []
    for expected in (silent, newer, idle):
        assert crowd.enter(_Client("b", None))
        gone.append(expected)
        assert [one.aborted for one in (silent, newer, idle)] == [one in gone for one in (silent, newer, idle)]
    assert not crowd.enter(_Client("c", None))
    assert not served.aborted
    assert len(crowd) == 4


def test_counts_by_address_end_with_their_connections() -> None:
    crowd = Crowd(100, 2, parse_networks("10.0.0.0/8"))
    first, second, refused = (_Client("192.0.2.1", None) for _ in range(3))
    assert (crowd.enter(first), crowd.enter(second), crowd.enter(refused)) == (True, True, False)
    crowd.leave(refused)
    assert not crowd.enter(refused)
    crowd.leave(first)
    crowd.leave(first)
    assert (crowd.enter(refused), crowd.enter(first)) == (True, False)
    assert all(crowd.enter(_Client("10.1.2.3", None)) for _ in range(10))
    assert all(crowd.enter(_Client(None, None)) for _ in range(10))
