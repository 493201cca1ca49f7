"""The recorder of loopback traffic sees what is there: otherwise it would prove nothing by not seeing it."""

import os
import socket
import struct

import pytest

from tests.browser.traffic import Segment, Stream, Traffic, parse, spoken

MARK = b"zq8-marked-words"


def segment(sequence: int, payload: bytes) -> Segment:
    return Segment(source_port=50000, target_port=80, sequence=sequence, opens=False, payload=payload)


@pytest.mark.parametrize("first", [1000, 2**32 - 5])
def test_text_split_over_segments_is_joined_in_order_even_where_numbers_turn_over(first: int) -> None:
    stream = Stream(first)
    pieces = [(0, MARK[:4]), (9, MARK[9:]), (4, MARK[4:9]), (4, MARK[4:9]), (2, MARK[2:6])]
    for offset, payload in pieces:
        stream.take(segment((first + offset) % 2**32, payload))
    assert stream.content() == MARK


def test_missing_segment_is_no_joint() -> None:
    stream = Stream(0)
    stream.take(segment(0, b"zq8-"))
    stream.take(segment(10, b"marked"))
    assert stream.content() == b"zq8-\0marked"


def test_frame_without_tcp_is_passed_over() -> None:
    udp = bytes(12) + struct.pack("!H", 0x0800) + bytes([0x45]) + bytes(8) + bytes([17]) + bytes(30)
    assert parse(udp) is None
    assert parse(bytes(12) + struct.pack("!H", 0x0806) + bytes(28)) is None


def test_answer_in_events_is_run_together() -> None:
    events = b'data: {"delta": {"content":"Bon"}}\n\ndata: {"delta": {"content": "jour \\"\\u00e0\\" "}}\n\n'
    assert spoken(events) == 'Bonjour "à" '
    assert spoken(b'{"completion_tokens": 3}') == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the loopback's packets")
def test_both_ways_of_a_connection_are_seen_and_no_other_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port, other_port = server.getsockname()[1], other.getsockname()[1]
        with Traffic([port]) as traffic:
            for listening in (server, other):
                with socket.create_connection(listening.getsockname()) as client:
                    accepted, _ = listening.accept()
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    client.sendall(MARK[:6])
                    client.sendall(MARK[6:] + bytes(100_000))
                    with accepted:
                        accepted.recv(10)
                        accepted.sendall(b"an answer")
                    client.recv(100)
    assert traffic.sent_to(port).startswith(MARK)
    assert MARK not in traffic.sent_from(port)
    assert traffic.sent_from(port) == b"an answer"
    assert traffic.sent_to(other_port) == b""
