"""A request's slip: all that is needed to settle it without its gateway. Ids and numbers, never content.

It travels to the engine with the attempt and comes back in every record of the engine, so that it is durable exactly
when there is something to charge, and costs no write and no wait of its own. Engines cannot make one: the seal's key
is derived from the region's credential, which they lack. Gateways cannot make an engine's record: Valkey refuses it.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Struct

from chappe_kernel.api_keys import prepare_hmac
from chappe_kernel.errors import ChappeError
from chappe_kernel.rating import Price

LIFE_CHARACTERS = 32
"""A slip begins with its gateway's life in hex: whose it is can be told without opening it."""
_KEY_LABEL = b"chappe slip 1 "
_SEAL_BYTES = 16

_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")


class Slip(Struct, frozen=True, array_like=True):
    """What a request was admitted with. Fields are only ever added at the end: old slips stay readable."""

    request_id: UUID
    tenant_id: UUID
    project_id: UUID
    key_id: UUID
    grant_id: UUID
    price_version: UUID
    listing: str
    price: tuple[int, ...]
    """`Price`'s fields in order."""
    hold_nano: int
    max_prompt_tokens: int
    max_completion_tokens: int
    started_at: datetime
    idempotency_digest: bytes | None = None

    def rates(self) -> Price:
        return Price(*self.price)


_decoder = msgspec.msgpack.Decoder(Slip)


class SlipSeal:
    """Seals slips of one gateway's life, and opens those of every gateway of the region."""

    def __init__(self, region_credential: str, region: str, life: UUID) -> None:
        key = hmac.digest(region_credential.encode(), _KEY_LABEL + region.encode(), "sha256")
        self._digest = prepare_hmac(key)
        self._life = life.hex.encode()

    def seal(self, slip: Slip) -> str:
        """ASCII, about 330 characters."""
        packed = _encoder.encode(slip)
        return (self._life + urlsafe_b64encode(packed + self._tag(self._life, packed))).decode()

    def open(self, sealed: str) -> Slip | None:
        """`None` for anything that no gateway of this region sealed."""
        try:
            life, body = sealed[:LIFE_CHARACTERS].encode("ascii"), urlsafe_b64decode(sealed[LIFE_CHARACTERS:])
        except (Base64Error, ValueError):
            return None
        packed, tag = body[:-_SEAL_BYTES], body[-_SEAL_BYTES:]
        if not hmac.compare_digest(tag, self._tag(life, packed)):
            return None
        try:
            return _decoder.decode(packed)
        except (msgspec.DecodeError, ChappeError):
            return None

    def _tag(self, life: bytes, packed: bytes) -> bytes:
        return self._digest(life + packed)[:_SEAL_BYTES]
