"""The benchmark of many streams takes no stream for clean that is not: any byte changed, lost or added is seen."""

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.paced_engine import DONE, events
from tests.bench.stream_readers import is_clean

BODY = b"".join(events(3)) + DONE
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
FRAMED = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*events(3), DONE)) + b"0\r\n\r\n"


def test_the_whole_answer_is_clean() -> None:
    assert is_clean(HEAD + FRAMED, BODY)


def test_however_it_is_cut_into_chunks() -> None:
    assert is_clean(HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), BODY)


def test_a_changed_byte_is_seen() -> None:
    for at in range(len(FRAMED)):
        for by in (0x01, 0x20, 0x80):
            changed = bytearray(FRAMED)
            changed[at] ^= by
            assert not is_clean(HEAD + changed, BODY)


def test_a_lost_byte_and_a_lost_end_are_seen() -> None:
    for at in range(len(FRAMED)):
        assert not is_clean(HEAD + FRAMED[:at], BODY)
        assert not is_clean(HEAD + FRAMED[:at] + FRAMED[at + 1 :], BODY)


@given(st.binary(min_size=1, max_size=9))
def test_what_follows_the_end_is_seen(more: bytes) -> None:
    assert not is_clean(HEAD + FRAMED + more, BODY)


def test_another_status_is_seen() -> None:
    assert not is_clean(HEAD.replace(b"200 OK", b"503 Service Unavailable") + FRAMED, BODY)
