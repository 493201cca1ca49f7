"""One reading of what comes on a connection: what a proxy in front could read in another way is refused, and nothing
that is hidden in a request is ever answered as another one.

Each case is bytes on a socket. If the connection stays open, a health check on it gets its own answer and no other.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chappe_gateway.edge.server import MAX_HEADERS, MAX_PIPELINED
from tests.bad_clients.answers import Answer, check_refusal, read_answers
from tests.bad_clients.process import GatewayProcess, gateway_process
from tests.gateway.world import RawClient, World

CHAT = "/v1/chat/completions"
HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
_ANSWERED_WITHIN_S = 10.0

REFUSED: dict[str, bytes] = {
    "CL.TE": b"content-length: %d\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n%b" % (5 + len(HIDDEN), HIDDEN),
    "TE.CL": b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    "TE.TE": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE that does not end with chunked": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE that nobody knows": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE after a vertical tab": b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "TE with a space before its colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two lengths": b"content-length: 2\r\ncontent-length: %d\r\n\r\n{}%b" % (2 + len(HIDDEN), HIDDEN),
    "two equal lengths": b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}" + HIDDEN,
    "a list of lengths": b"content-length: 2, 2\r\n\r\n{}" + HIDDEN,
    "a signed length": b"content-length: +2\r\n\r\n{}" + HIDDEN,
    "a negative length": b"content-length: -2\r\n\r\n{}" + HIDDEN,
    "a length in hex": b"content-length: 0x2\r\n\r\n{}" + HIDDEN,
    "a length over 64 bits": b"content-length: 18446744073709551618\r\n\r\n{}" + HIDDEN,
    "a space before the length's colon": b"content-length : 2\r\n\r\n{}" + HIDDEN,
    "a NUL in a value": b"x: a\0b\r\ncontent-length: 2\r\n\r\n{}" + HIDDEN,
    "a NUL in a name": b"x\0y: a\r\ncontent-length: 2\r\n\r\n{}" + HIDDEN,
    "a bare CR in a value": b"x: a\rb\r\ncontent-length: 2\r\n\r\n{}" + HIDDEN,
    "a line that is no header": b"nonsense\r\ncontent-length: 2\r\n\r\n{}" + HIDDEN,
    "a chunk's size over 64 bits": b"transfer-encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size with a prefix": b"transfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n" + HIDDEN,
    "a negative chunk": b"transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n" + HIDDEN,
    "a chunk longer than it says": b"transfer-encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n" + HIDDEN,
    "chunks that end in bare LF": b"transfer-encoding: chunked\r\n\r\n2\n{}\n0\n\n" + HIDDEN,
    "too many headers": b"x: y\r\n" * (MAX_HEADERS + 1) + b"content-length: 2\r\n\r\n{}" + HIDDEN,
    "a head that is too large": b"x: %b\r\ncontent-length: 2\r\n\r\n{}%b" % (b"y" * 70_000, HIDDEN),
    "headers that are too large together": b"x: %b\r\n" % (b"y" * 8000) * 10 + b"content-length: 2\r\n\r\n{}" + HIDDEN,
}
START_LINES: dict[str, bytes] = {
    "no version": b"POST /v1/chat/completions\r\n",
    "HTTP/2": b"POST /v1/chat/completions HTTP/2.0\r\n",
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n",
    "a space too many": b"POST /v1/chat/completions x HTTP/1.1\r\n",
    "a method in lower case": b"post /v1/chat/completions HTTP/1.1\r\n",
    "a method that nobody knows": b"STEAL /v1/chat/completions HTTP/1.1\r\n",
    "a NUL in the path": b"POST /v1/chat\0/completions HTTP/1.1\r\n",
    "a path of no ASCII": b"POST /v1/chat\xff/completions HTTP/1.1\r\n",
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\n",
    "a TLS hello": bytes.fromhex("1603010200010001fc0303"),
    "a target that is too long": b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\n",
}


@pytest.fixture
async def gateway(world: World) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(world) as running:
        yield running


async def answers_of(gateway: GatewayProcess, *pieces: bytes, check_health: bool = True) -> list[Answer]:
    """All that comes back; and what stays open is in step."""
    async with RawClient.to(gateway.port, limit=2**24) as client, asyncio.timeout(_ANSWERED_WITHIN_S):
        for piece in pieces:
            client.writer.write(piece)
            await asyncio.sleep(0)
        received = b""
        while True:
            try:
                part = await client.reader.read(65536)
            except ConnectionResetError:
                part = b""
            received += part
            answers, is_partial = read_answers(received)
            if not part or (answers and not is_partial and not answers[-1].closes and not check_health):
                return answers
            if answers and not is_partial and not answers[-1].closes:
                check_health = False
                client.writer.write(HEALTH)


def head_of(world: World, path: str = CHAT, start: bytes | None = None) -> bytes:
    start = start or f"POST {path} HTTP/1.1\r\n".encode()
    return start + f"host: x\r\nauthorization: Bearer {world.key}\r\ncontent-type: application/json\r\n".encode()


async def test_what_could_be_read_in_two_ways_is_refused_once_and_the_connection_closes(
    world: World, gateway: GatewayProcess
) -> None:
    async def check(name: str, rest: bytes, path: str) -> None:
        head = head_of(world, path)
        for pieces in ((head + rest,), (head[:20], head[20:] + rest[:30], rest[30:])):
            answers = await answers_of(gateway, *pieces)
            assert len(answers) == 1, (name, path, answers)
            assert answers[0].closes, (name, path)
            check_refusal(answers[0], path)

    paths = (CHAT, "/v1/messages", "/v1/models")
    await asyncio.gather(*(check(name, rest, path) for path in paths for name, rest in REFUSED.items()))
    await nothing_happened(world, gateway)


async def test_what_is_no_request_is_400_and_the_connection_closes(world: World, gateway: GatewayProcess) -> None:
    async def check(name: str, start: bytes) -> None:
        answers = await answers_of(gateway, head_of(world, start=start) + b"content-length: 2\r\n\r\n{}" + HIDDEN)
        assert len(answers) == 1, (name, answers)
        assert answers[0].closes, name
        check_refusal(answers[0], CHAT)

    await asyncio.gather(*(check(name, start) for name, start in START_LINES.items()))
    await nothing_happened(world, gateway)


async def test_a_good_request_is_answered_before_what_follows_it_is_refused(
    world: World, gateway: GatewayProcess
) -> None:
    good = head_of(world, "/v1/models", b"GET /v1/models HTTP/1.1\r\n") + b"\r\n"
    for noise in (b"NONSENSE\r\n\r\n", b"\0\0\0", b"GET /hidden HTTP/9\r\n\r\n", head_of(world) + REFUSED["CL.TE"]):
        answers = await answers_of(gateway, good + good + noise)
        assert [answer.status for answer in answers] == [200, 200]
        assert answers[-1].closes
    await nothing_happened(world, gateway)


async def test_a_charged_answer_is_whole_whatever_follows_its_request(world: World, gateway: GatewayProcess) -> None:
    world.engine.script.delay_s = 0.02
    async with RawClient.to(gateway.port) as client:
        client.send_chat(world.key, stream=True)
        client.writer.write(b"NONSENSE\r\n\r\n" * 10)
        answers, _ = read_answers(await client.reader.read())
    [answer] = answers
    assert answer.status == 200
    assert answer.body.endswith(b"data: [DONE]\n\n")
    await world.events(1)


async def test_another_protocol_is_not_spoken_and_the_request_is_served(world: World, gateway: GatewayProcess) -> None:
    for upgrade in (b"websocket", b"h2c"):
        lines = b"connection: upgrade\r\nupgrade: %b\r\n" % upgrade
        models = head_of(world, start=b"GET /v1/models HTTP/1.1\r\n")
        [answer] = await answers_of(gateway, models + lines + b"\r\n" + HIDDEN)
        assert (answer.status, answer.closes) == (200, True)


async def test_trailers_say_nothing(world: World, gateway: GatewayProcess) -> None:
    """They come after what a proxy checks: no key, no region and no client's address is taken from them."""
    start = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
    body = b"2\r\n{}\r\n0\r\n"
    told = f"authorization: Bearer {world.key}\r\n\r\n".encode()
    [answer] = await answers_of(gateway, start.encode() + b"\r\n" + body + told)
    check_refusal(answer, CHAT)
    assert answer.status == 401
    [answer, health] = await answers_of(
        gateway, head_of(world) + b"transfer-encoding: chunked\r\n\r\n" + body + b"x-chappe-region: nowhere\r\n\r\n"
    )
    check_refusal(answer, CHAT)
    assert (answer.status, health.status) == (400, 200)


async def test_absolute_targets_name_no_other_server(world: World, gateway: GatewayProcess) -> None:
    start = f"GET http://127.0.0.1:{world.engine.port}/v1/models HTTP/1.1\r\n".encode()
    [answer, health] = await answers_of(gateway, head_of(world, start=start) + b"\r\n")
    assert (answer.status, health.status) == (200, 200)
    assert b"smollm2" in answer.body
    await nothing_happened(world, gateway)


async def test_more_requests_at_once_than_may_wait_end_the_connection(world: World, gateway: GatewayProcess) -> None:
    many = MAX_PIPELINED * 20
    async with RawClient.to(gateway.port) as client:
        client.writer.write(HEALTH * many)
        answers, _ = read_answers(await client.reader.read())
    assert 1 < len(answers) < many
    assert {answer.status for answer in answers} == {200}
    assert answers[-1].closes


async def test_chunk_extensions_and_empty_lines_between_requests_are_skipped(
    world: World, gateway: GatewayProcess
) -> None:
    body = b'{"model":"nonesuch","messages":[{"role":"user","content":"hi"}]}'
    chunk = b'%x;a=b;c="d"\r\n%b\r\n0;e\r\n\r\n' % (len(body), body)
    answers = await answers_of(gateway, head_of(world) + b"transfer-encoding: chunked\r\n\r\n" + chunk + b"\r\n\r\n")
    assert [answer.status for answer in answers] == [404, 200]


async def nothing_happened(world: World, gateway: GatewayProcess) -> None:
    assert world.engine.seen == []
    assert world.control.grants == {}
    await world.events(0)
    assert "request_failed" not in gateway.log.read_text()
