"""Tickets between gateways, sealed with what all gateways of an operator share and nobody else has: the peppers.

A ticket lasts for as long as clocks may be wrong, and opens once in a process: what was seen is not taken again.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import sha256
from uuid import UUID

import msgspec

from chappe_gateway.edge.errors import PeerRefused
from chappe_kernel.api_keys import Pepper
from chappe_kernel.wire.peer import Ticket

_LABEL = b"chappe peer 1"
_SEAL_BYTES = 32
_GOOD_FOR_S = 900.0
_MAX_SEEN = 200_000
_MAX_SEALED_BYTES = 2048

_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_decoder = msgspec.msgpack.Decoder(Ticket)


class PeerSeal:
    """Of one gateway. It seals under the newest pepper, and opens what any pepper in force has sealed."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._keys: list[bytes] = []
        self._seen: OrderedDict[UUID, None] = OrderedDict()

    def use(self, peppers: Iterable[Pepper]) -> None:
        """From now on these, the newest first."""
        self._keys = [hmac.digest(pepper.secret, _LABEL, "sha256") for pepper in peppers]

    def seal(self, ticket: Ticket) -> bytes:
        """A header's value; empty as long as no pepper is known."""
        if not self._keys:
            return b""
        packed = _encoder.encode(ticket)
        return urlsafe_b64encode(packed + hmac.digest(self._keys[0], packed, "sha256"))

    def open(self, sealed: bytes, now_s: float) -> Ticket | None:
        """None for whatever no gateway sealed for this region within the last quarter of an hour by the wall clock, and
        for what this process has opened before."""
        ticket = self._open(sealed)
        if ticket is None or ticket.target != self._region or ticket.origin == self._region:
            return None
        if abs(now_s - _made_at_s(ticket.id)) > _GOOD_FOR_S or ticket.id in self._seen:
            return None
        self._seen[ticket.id] = None
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        return ticket

    def _open(self, sealed: bytes) -> Ticket | None:
        if len(sealed) > _MAX_SEALED_BYTES:
            return None
        try:
            body = urlsafe_b64decode(sealed)
        except (Base64Error, ValueError):
            return None
        packed, tag = body[:-_SEAL_BYTES], body[-_SEAL_BYTES:]
        if not any(hmac.compare_digest(tag, hmac.digest(key, packed, "sha256")) for key in self._keys):
            return None
        try:
            return _decoder.decode(packed)
        except msgspec.DecodeError:
            return None


def check_body(ticket: Ticket, body: bytes) -> None:
    """Raises `PeerRefused` for another body than the ticket's."""
    if not hmac.compare_digest(ticket.body_sha256, sha256(body).digest()):
        raise PeerRefused("this is not the body that was forwarded")


def _made_at_s(ticket_id: UUID) -> float:
    """A UUIDv7 begins with milliseconds since 1970."""
    return (ticket_id.int >> 80) / 1000
