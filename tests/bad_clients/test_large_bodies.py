"""Bodies of a gibibyte, gzip bombs and deep JSON: refused with 413, 415 or 400 on every path, in bounded memory."""

import asyncio
import contextlib
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.bad_clients.answers import Answer, check_refusal, read_answers
from tests.bad_clients.neighbour import asking, neighbour
from tests.bad_clients.process import GatewayProcess, gateway_process
from tests.fuzz.bodies import TARGETS, Target, bomb
from tests.gateway.world import World

GIB = 2**30
MAX_GROWTH_MIB = 96.0
"""A tenth of one of these bodies, of which there are several at once; five times less than what the bomb unpacks to."""
WITH_BODIES = [target for target in TARGETS if target.method == "POST"]
AT_ONCE = 8
_BLOCK = b"x" * 2**18
_CHUNK = b"%x\r\n%b\r\n" % (len(_BLOCK), _BLOCK)
_ANSWERED_WITHIN_S = 20.0


def head(target: Target, key: str, *lines: str) -> bytes:
    usual = [
        f"POST {target.path} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {key}",
        "content-type: application/json",
    ]
    return ("\r\n".join([*usual, *lines]) + "\r\n\r\n").encode()


def send_all(port: int, first: bytes, block: bytes, blocks: int) -> tuple[list[Answer], int]:
    """What came back, and how many bytes went out. Sends for as long as the gateway takes them."""
    sent = 0
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=_ANSWERED_WITHIN_S) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(first)
            for _ in range(blocks):
                client.sendall(block)
                sent += len(block)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while part := client.recv(65536):
                received += part
                answers, is_partial = read_answers(received)
                if answers and not is_partial and not answers[-1].closes:
                    break
    return read_answers(received)[0], sent


async def upload(
    gateway: GatewayProcess, uploads: list[tuple[bytes, bytes, int]]
) -> tuple[list[tuple[list[Answer], int]], float]:
    """Some at once. What came back for each, and the most memory that the gateway took meanwhile."""
    loop = asyncio.get_running_loop()
    highest_mib = 0.0
    with ThreadPoolExecutor(AT_ONCE) as threads:
        sending = [loop.run_in_executor(threads, send_all, gateway.port, *one) for one in uploads]
        pending: set[asyncio.Future[tuple[list[Answer], int]]] = set(sending)
        while pending:
            _, pending = await asyncio.wait(pending, timeout=0.05)
            highest_mib = max(highest_mib, gateway.rss_mib())
    return [one.result() for one in sending], highest_mib


@pytest.mark.alone
@pytest.mark.parametrize("how", ["content-length: 1073741824", "transfer-encoding: chunked"])
async def test_a_gibibyte_is_refused_before_it_is_there(world: World, how: str) -> None:
    """The client goes on sending, whatever it was answered: at most what fits into buffers is ever taken."""
    block = _CHUNK if "chunked" in how else _BLOCK
    async with gateway_process(world) as gateway, neighbour(world, gateway) as good:
        alone_s = await good.baseline()
        before_mib = gateway.rss_mib()
        uploads = [(head(target, world.key, how), block, GIB // len(block)) for target in WITH_BODIES]
        async with asking(good, gateway):
            results, highest_mib = await upload(gateway, uploads)
        for target, (answers, sent) in zip(WITH_BODIES, results, strict=True):
            assert sent < GIB // 4, target.path
            # The reset that ends an endless upload may overtake the answer; nothing else may be there.
            for answer in answers:
                check_refusal(answer, target.path)
                assert answer.status in ((404,) if target.path == "/v1/nothing-of-ours" else (413,))
        good.check(alone_s)
        assert highest_mib - before_mib < MAX_GROWTH_MIB
        await gateway.stop()
    assert all(event.tenant_id != world.tenant for event in world.control.events.values())
    assert all(grant.pending_nano == 0 for grant in world.control.grants.values())


async def test_whoever_asks_first_hears_413_and_sends_nothing(world: World) -> None:
    async with gateway_process(world) as gateway:
        for target in WITH_BODIES[:-1]:
            first = head(target, world.key, f"content-length: {GIB}", "expect: 100-continue")
            [answer], _ = await asyncio.to_thread(send_all, gateway.port, first, b"", 0)
            check_refusal(answer, target.path)
            assert (answer.status, answer.closes) == (413, True)


@pytest.mark.alone
async def test_bombs_and_deep_json_are_refused_in_bounded_memory(world: World) -> None:
    packed = bomb(512 * 2**20)
    assert len(packed) < 2**20
    bodies = [
        (packed, "content-encoding: gzip", 415),
        (packed, "content-encoding: identity, gzip", 415),
        (packed, "x: y", 400),
        (b"[" * 1_000_000, "x: y", 400),
        (b'{"model":' * 100_000 + b"1" + b"}" * 100_000, "x: y", 400),
        (b'{"model":"a","metadata":' + b"[" * 500_000 + b"]" * 500_000 + b"}", "x: y", 400),
        (json.dumps({str(number): number for number in range(60_000)}).encode(), "x: y", 400),
        (b'{"' + b"x" * 1_000_000 + b'":1}', "x: y", 400),
    ]
    async with gateway_process(world) as gateway, neighbour(world, gateway) as good:
        alone_s = await good.baseline()
        before_mib = gateway.rss_mib()
        cases = [(target, *case) for target in WITH_BODIES[:-1] for case in bodies]
        uploads = [
            (head(target, world.key, line, f"content-length: {len(body)}"), body, 1) for target, body, line, _ in cases
        ]
        async with asking(good, gateway):
            results, highest_mib = await upload(gateway, uploads)
        for (target, _, line, status), (answers, _) in zip(cases, results, strict=True):
            [answer] = answers
            check_refusal(answer, target.path)
            assert answer.status == status, (target.path, line, answer)
            assert len(answer.body) < 4096, "it repeats what the client sent"
        good.check(alone_s)
        assert highest_mib - before_mib < MAX_GROWTH_MIB
        await gateway.stop()
    assert all(event.tenant_id != world.tenant for event in world.control.events.values())
