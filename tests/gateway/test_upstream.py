"""Whoever reads an answer as it comes gets all of it in order, and what goes wrong, where it waits for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from chappe_gateway.engines.upstream import MAX_HEAD_BYTES, Exchange, HttpClient, UpstreamLost
from tests.gateway.servers import free_port

_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"
_PIECES = [b"%04d" % number for number in range(200)]


class _NotMine(Exception):
    pass


def _chunked(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


@contextlib.asynccontextmanager
async def exchange(*writes: bytes, ends: bool = True) -> AsyncIterator[Exchange]:
    """An answer that comes in these writes, one turn of the loop after another, and then perhaps breaks off."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for data in writes:
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0)
            if ends:
                writer.close()
            await reader.read()
        writer.close()

    port = free_port()
    listening = await asyncio.start_server(answer, "127.0.0.1", port)
    client = HttpClient(f"http://127.0.0.1:{port}")
    opened = await client.send(b"GET", b"/")
    try:
        async with asyncio.timeout(30):
            yield opened
    finally:
        opened.abort()
        listening.close()
        await listening.wait_closed()


async def test_all_of_it_in_order() -> None:
    async with exchange(_HEAD + b"\r\n", *map(_chunked, _PIECES), b"0\r\n\r\n", ends=False) as opened:
        await opened.head()
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            taken.append(data)
            return True

        await opened.pass_to(take)
        assert b"".join(taken) == b"".join(_PIECES)
        assert opened.complete


async def test_what_is_not_taken_as_it_comes_is_there_later() -> None:
    async with exchange(_HEAD + b"\r\n", *map(_chunked, _PIECES), b"0\r\n\r\n", ends=False) as opened:
        await opened.head()
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            taken.append(data)
            return len(taken) % 2 == 0

        while not opened.complete:
            await opened.pass_to(take)
            # Whatever comes meanwhile waits.
            await asyncio.sleep(0)
        await opened.pass_to(take)
        assert b"".join(taken) == b"".join(_PIECES)


async def test_what_the_taker_raises_is_raised_where_it_waits_and_nothing_more_is_taken() -> None:
    async with exchange(_HEAD + b"\r\n", *map(_chunked, _PIECES), ends=False) as opened:
        await opened.head()
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            taken.append(data)
            raise _NotMine

        with pytest.raises(_NotMine):
            await opened.pass_to(take)
        await asyncio.sleep(0)
        assert len(taken) == 1


async def test_an_answer_that_breaks_off_is_lost() -> None:
    async with exchange(_HEAD + b"\r\n", _chunked(b"a")) as opened:
        await opened.head()
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            taken.append(data)
            return True

        with pytest.raises(UpstreamLost):
            await opened.pass_to(take)
        assert taken == [b"a"]


_LINE = b"x-%06d: y\r\n"
_LINES = [_LINE % number for number in range(MAX_HEAD_BYTES // len(_LINE % 0) + 2000)]


@pytest.mark.parametrize("pieces", [1, 50])
async def test_a_head_that_is_too_large_is_no_answer(pieces: int) -> None:
    size = len(_LINES) // pieces
    writes = [b"".join(_LINES[at : at + size]) for at in range(0, len(_LINES), size)]
    async with exchange(_HEAD, *writes, b"\r\n", _chunked(b"a"), ends=False) as opened:
        with pytest.raises(UpstreamLost):
            await opened.head()
            await opened.read()


async def test_a_head_that_never_ends_is_no_answer() -> None:
    async with exchange(_HEAD, *[b"x-%06d: y\r\n" % number for number in range(8000)], ends=False) as opened:
        with pytest.raises(UpstreamLost):
            await opened.head()


async def test_a_large_body_beside_the_head_is_no_large_head() -> None:
    body = b"b" * (2 * MAX_HEAD_BYTES)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with exchange(head + body, ends=False) as opened:
        await opened.head()
        assert await opened.read_all(len(body)) == body
