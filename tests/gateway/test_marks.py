"""Bytes between the marks pass verbatim, however the network cuts them; the marks never do."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_gateway.engines.events import MAX_EVENT_BYTES, BadStream, EngineEvents, decode_end
from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import END_MARK, START_MARK, End, Start
from tests.gateway.world import RunningGateway, World, auth, chat_body

START = Start(5, 1)
END = End("completed", Counts(5, 1, 3), "stop")


def chunk(text: str) -> bytes:
    return b"data: " + msgspec.json.encode({"choices": [{"delta": {"content": text}}]}) + b"\n\n"


def framed(passing: bytes) -> bytes:
    start, end = msgspec.json.encode(START), msgspec.json.encode(END)
    return START_MARK + start + b"\n\n" + passing + END_MARK + end + b"\n\n"


SAMPLE = (
    chunk("") + chunk("Hello") + chunk(' \\n\nevent: chappe.end\ndata: "content":"x"') + chunk("é\u2028") + b": hi\n\n"
)


def check(pieces: list[bytes], passing: bytes, text_chunks: int) -> None:
    events = EngineEvents()
    out = b"".join(events.feed(piece) for piece in pieces)
    assert out == passing
    assert events.start == START
    assert events.end == END
    assert events.text_chunks == text_chunks
    assert events.feed(b"data: more\n\n") == b""


def test_split_at_every_position() -> None:
    stream = framed(SAMPLE)
    for at in range(len(stream) + 1):
        check([stream[:at], stream[at:]], SAMPLE, 3)


def test_byte_by_byte() -> None:
    check([bytes([byte]) for byte in framed(SAMPLE)], SAMPLE, 3)


@given(texts=st.lists(st.text(max_size=30), max_size=8), cuts=st.lists(st.integers(0, 4000), max_size=12))
def test_any_text_split_anywhere(texts: list[str], cuts: list[int]) -> None:
    passing = b"".join(chunk(text) for text in texts)
    stream = framed(passing)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[low:high] for low, high in pairwise(edges)]
    check(pieces, passing, sum(bool(text) for text in texts))


def test_only_whole_events_pass() -> None:
    events = EngineEvents()
    head = START_MARK + msgspec.json.encode(START) + b"\n\n"
    assert events.feed(head + chunk("a") + b"data: {") == chunk("a")
    assert events.feed(b'"content":"b"}\n\n') == b'data: {"content":"b"}\n\n'
    assert events.text_chunks == 2


@pytest.mark.parametrize(
    "stream",
    [
        chunk("no start"),
        START_MARK + b"{}\n\n",
        START_MARK + b'{"prompt_tokens":1,"cached_tokens":0}\n\n' + b'data: {"content":"a"}\ndata: {"content":"b"}\n\n',
        START_MARK + b'{"prompt_tokens":1,"cached_tokens":0}\n\n' + chunk("a") + b"data: {\n}\n\n" + chunk("b"),
        START_MARK + b'{"prompt_tokens":1,"cached_tokens":0}\n\n' + END_MARK + b'{"outcome":"won"}\n\n',
        b"x" * (MAX_EVENT_BYTES + 1),
        START_MARK
        + b'{"prompt_tokens":1,"cached_tokens":0}\n\n'
        + END_MARK
        + b'{"outcome":"completed","counts":{"prompt_tokens":1,"cached_tokens":2,"completion_tokens":0}}\n\n',
    ],
)
def test_what_breaks_the_protocol_is_refused(stream: bytes) -> None:
    with pytest.raises(BadStream):
        EngineEvents().feed(stream)


def test_an_end_without_a_start_is_heard() -> None:
    events = EngineEvents()
    assert events.feed(END_MARK + msgspec.json.encode(END) + b"\n\n") == b""
    assert events.end == END


def test_a_bad_end_header_is_none() -> None:
    assert decode_end(None) is decode_end(b"{") is decode_end(b"\xff") is None


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_over_the_wire_in_small_pieces(world: World, gateway: RunningGateway, size: int) -> None:
    whole = await gateway.http.post("/v1/chat/completions", json=chat_body(stream=True), headers=auth(world.key))
    world.engine.script.chunk_bytes = size
    pieces = await gateway.http.post("/v1/chat/completions", json=chat_body(stream=True), headers=auth(world.key))
    assert "chappe" not in pieces.text
    assert pieces.text.count("data: ") == whole.text.count("data: ")
    assert pieces.text.endswith("data: [DONE]\n\n")
