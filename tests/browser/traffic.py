"""What goes over this machine's loopback to chosen ports, read from the wire: neither side can leave anything out.

A raw socket on `lo` sees each packet twice, on its way out and in; only the first is kept. The payloads of a connection
are put into the order of their sequence numbers, so that text which is split over two segments is found all the same.
"""

import contextlib
import json
import re
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_PACKET_OUTGOING = 4
_BUFFER_BYTES = 64 * 1024 * 1024
_FRAME_BYTES = 128 * 1024
_ETHERNET_BYTES = 14
_IPV4, _IPV6 = 0x0800, 0x86DD
_IPV6_BYTES = 40
_TCP = 6
_SYN = 0x02
_SEQUENCES = 2**32
_GAP = b"\0"
_CONTENT = re.compile(rb'"content"\s*:\s*("(?:[^"\\]|\\.)*")')


class Segment(NamedTuple):
    """What matters of one TCP segment."""

    source_port: int
    target_port: int
    sequence: int
    opens: bool
    """It carries SYN: whatever these two ports said before belongs to an earlier connection."""
    payload: bytes


@dataclass
class Stream:
    """One direction of one connection, since its start or since the recording's."""

    first_sequence: int
    payloads: dict[int, bytes] = field(default_factory=dict)
    """By distance from the first sequence number, which is negative for what overtook it."""

    def take(self, segment: Segment) -> None:
        half = _SEQUENCES // 2
        offset = (segment.sequence - self.first_sequence + half) % _SEQUENCES - half
        if len(segment.payload) > len(self.payloads.get(offset, b"")):
            self.payloads[offset] = segment.payload

    def content(self) -> bytes:
        """In the order of sequence numbers, what was sent twice once, and a NUL where something is missing."""
        joined, end = bytearray(), None
        for offset, payload in sorted(self.payloads.items()):
            missing = end is not None and offset > end
            repeated = max(0, end - offset) if end is not None else 0
            joined += (_GAP if missing else b"") + payload[repeated:]
            end = max(offset + len(payload), end if end is not None else offset)
        return bytes(joined)


class Traffic:
    """Records what is sent to and from `ports` while its block runs. Needs root."""

    def __init__(self, ports: Iterable[int]) -> None:
        self._ports = frozenset(ports)
        self._streams: dict[tuple[int, int], list[Stream]] = defaultdict(list)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._socket.bind(("lo", _ETH_P_ALL))
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._reader.join()
        _, dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._socket.close()
        if kind is None:
            assert dropped == 0, f"the kernel dropped {dropped} packets, and nobody knows what was in them"

    def sent_to(self, port: int) -> bytes:
        """Everything that anybody sent to `port`, connection by connection."""
        return _content({ports: streams for ports, streams in self._streams.items() if ports[1] == port})

    def sent_from(self, port: int) -> bytes:
        """Everything that whoever listens on `port` answered."""
        return _content({ports: streams for ports, streams in self._streams.items() if ports[0] == port})

    def _read(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                self._take()
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._take()

    def _take(self) -> None:
        frame, (_, _, kind, *_) = self._socket.recvfrom(_FRAME_BYTES)
        segment = parse(frame) if kind == _PACKET_OUTGOING else None
        if segment is None or not self._ports & {segment.source_port, segment.target_port}:
            return
        streams = self._streams[segment.source_port, segment.target_port]
        if segment.opens or not streams:
            streams.append(Stream(segment.sequence))
        if segment.payload:
            streams[-1].take(segment)


def parse(frame: bytes) -> Segment | None:
    """The TCP segment in an Ethernet frame, if there is one."""
    (kind,) = struct.unpack_from("!H", frame, 12)
    packet = frame[_ETHERNET_BYTES:]
    if kind == _IPV4 and packet[9] == _TCP:
        header_bytes, total_bytes = (packet[0] & 15) * 4, struct.unpack_from("!H", packet, 2)[0]
    elif kind == _IPV6 and packet[6] == _TCP:
        header_bytes, total_bytes = _IPV6_BYTES, _IPV6_BYTES + struct.unpack_from("!H", packet, 4)[0]
    else:
        return None
    # A length of 0 stands for a packet over 64 KiB, which only the loopback carries: then the frame's end is its end.
    segment = packet[header_bytes : total_bytes if total_bytes > header_bytes else None]
    source_port, target_port, sequence = struct.unpack_from("!HHI", segment)
    return Segment(source_port, target_port, sequence, bool(segment[13] & _SYN), segment[(segment[12] >> 4) * 4 :])


def spoken(data: bytes) -> str:
    """All that stands under `"content"` in JSON, run together: a prompt, or an answer that came in many events."""
    return "".join(json.loads(match) for match in _CONTENT.findall(data))


def _content(streams: Mapping[tuple[int, int], list[Stream]]) -> bytes:
    return _GAP.join(stream.content() for several in streams.values() for stream in several)
