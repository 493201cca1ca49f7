"""In a rush, what happens in one turn of the event loop goes out together; what comes alone goes at once."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_gateway.engines.upstream import Exchange, HttpClient, UpstreamLost
from chappe_gateway.rush import Rush
from chappe_gateway.usage.commit_log import CommitLog, Row
from tests.gateway.servers import free_port
from tests.gateway.test_spool import event, opened

_MANY, _WITHIN_MS = 8, 5
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@given(st.lists(st.integers(0, 3), max_size=60))
def test_it_is_a_rush_when_eight_came_in_the_last_milliseconds(gaps_ms: list[int]) -> None:
    # Parts of a power of two, so that sums are exact.
    rush, instants = Rush(), [1000.0]
    for gap in gaps_ms:
        instants.append(instants[-1] + gap / 1024)
    for index, now in enumerate(instants):
        came = [earlier for earlier in instants[:index] if 1000 * (now - earlier) < _WITHIN_MS]
        assert rush.note(now) == (len(came) >= _MANY)


class _Engine:
    """Answers whatever it is asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self._port = free_port()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[HttpClient]:
        """With connections that wait for requests."""
        listening = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        client = HttpClient(f"http://127.0.0.1:{self._port}")
        try:
            async with asyncio.timeout(30):
                exchanges = [await client.send(b"GET", b"/before") for _ in range(4)]
                for exchange in exchanges:
                    await _read(client, exchange)
                self.asked.clear()
                yield client
        finally:
            client.close()
            listening.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
                writer.write(_OK)
        writer.close()


async def _read(client: HttpClient, exchange: Exchange) -> None:
    await exchange.head()
    assert await exchange.read_all(10) == b"ok"
    client.release(exchange)


@pytest.fixture
def it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rush, even where this process is held up for a while."""
    monkeypatch.setattr("chappe_gateway.rush._WITHIN_S", 60.0)


def _begin_rush(rush: Rush) -> None:
    for _ in range(_MANY):
        rush.note(time.monotonic())


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was written, as it is."""
    paths: list[bytes] = []
    write = Exchange.write

    def note(exchange: Exchange, request: bytes) -> None:
        paths.append(request.split(b" ")[1])
        write(exchange, request)

    monkeypatch.setattr(Exchange, "write", note)
    return paths


@pytest.mark.usefixtures("it_lasts")
async def test_requests_of_one_turn_are_written_at_its_end_in_order(written: list[bytes]) -> None:
    engine = _Engine()
    async with engine.client() as client:
        _begin_rush(client._rush)
        written.clear()
        exchanges = [await client.send(b"GET", path, with_others=True) for path in (b"/a", b"/b", b"/c")]
        assert written == []
        await asyncio.sleep(0)
        assert written == [b"/a", b"/b", b"/c"]
        for exchange in exchanges:
            await _read(client, exchange)
        assert sorted(engine.asked) == [b"/a", b"/b", b"/c"]
        # The next turn has an end of its own.
        _begin_rush(client._rush)
        await _read(client, await client.send(b"GET", b"/d", with_others=True))
        assert engine.asked[3:] == [b"/d"]


@pytest.mark.usefixtures("it_lasts")
async def test_what_is_alone_or_in_no_rush_is_written_at_once(written: list[bytes]) -> None:
    engine = _Engine()
    async with engine.client() as client:
        client._rush = Rush()
        written.clear()
        calm = await client.send(b"GET", b"/calm", with_others=True)
        assert written == [b"/calm"]
        _begin_rush(client._rush)
        alone = await client.send(b"GET", b"/alone")
        assert written == [b"/calm", b"/alone"]
        await _read(client, calm)
        await _read(client, alone)


@pytest.mark.usefixtures("it_lasts")
async def test_what_is_given_up_before_the_turns_end_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _Engine()
    async with engine.client() as client:
        _begin_rush(client._rush)
        given_up = await client.send(b"GET", b"/given-up", with_others=True)
        kept = await client.send(b"GET", b"/kept", with_others=True)
        given_up.abort()
        # uvloop's transport raises when it is closed; asyncio's drops what it is given.
        monkeypatch.setattr(given_up.transport, "write", pytest.fail)
        with pytest.raises(UpstreamLost):
            await given_up.head()
        await _read(client, kept)
        assert engine.asked == [b"/kept"]


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each commit had."""
    sizes: list[int] = []
    append = CommitLog.append

    def note(log: CommitLog, rows: Sequence[Row]) -> bool:
        sizes.append(len(rows))
        return append(log, rows)

    monkeypatch.setattr(CommitLog, "append", note)
    return sizes


@pytest.mark.usefixtures("it_lasts")
@pytest.mark.parametrize(
    ("is_rush", "reserved", "expected"), [(True, 5, [5]), (False, 5, [1, 4]), (True, 1, [1, 4])], ids=str
)
async def test_events_of_one_turn_are_one_commit_in_a_rush(
    tmp_path: Path, groups: list[int], *, is_rush: bool, reserved: int, expected: list[int]
) -> None:
    spool = await opened(tmp_path)
    for _ in range(reserved):
        spool.reserve()
    if is_rush:
        _begin_rush(spool._rush)
    await asyncio.gather(*(spool.put(event()) for _ in range(5)))
    assert groups == expected
    spool.close()


@pytest.mark.usefixtures("it_lasts")
async def test_a_stop_writes_what_waits_for_its_turns_end(tmp_path: Path, groups: list[int]) -> None:
    spool = await opened(tmp_path)
    spool.reserve()
    spool.reserve()
    _begin_rush(spool._rush)
    done = spool.put(event())
    assert groups == []
    await spool.written()
    assert groups == [1]
    assert done.done()
    _begin_rush(spool._rush)
    spool.put(event())
    spool.close()
    assert groups == [1, 1]
