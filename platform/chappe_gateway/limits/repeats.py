"""`Idempotency-Key`: one answer and one charge for a request that is sent again. Per project and region.

Who asks first takes the key in the region's Redis, with a lease that this gateway renews while it works on the request.

| the key is | with the same body | with another |
|---|---|---|
| taken, and its request runs | 409 `request_in_progress` | 409 `idempotency_key_reused` |
| taken, and its request was charged or completed | the kept answer, or 409 `already_completed` | the same |
| free: new, a day old, or its request cost nothing and gave nothing | runs | runs |

An answer is kept only for a tenant who wants it, and encrypted with a key that is made of the region's credential and
of the `Idempotency-Key` itself: who reads Redis alone reads nothing. It is kept before its event is committed, so that
a gateway that dies in between has both charged and answered it.

Redis may forget, or be away: then a repeat runs again. It is charged once all the same: what is charged carries
`digest`, and the control plane posts a second event with the same one at zero.
"""

import asyncio
import hmac
import os
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec
import redis.asyncio
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct
from redis.exceptions import RedisError

from chappe_gateway.edge.errors import Headers, RequestInProgress
from chappe_kernel.clock import Clock
from chappe_kernel.errors import Conflict, Invalid

_log = structlog.get_logger()

HEADER = b"idempotency-key"
_PARAM = "Idempotency-Key"
_MAX_KEY_LENGTH = 255
REMEMBERED_S = 24 * 3600
"""So long a key is taken, counted from the end of its request, and so long the control plane knows a digest."""
MAX_ANSWER_BYTES = 64 * 1024
"""A longer answer is not kept: its repeat is told that it was completed."""
_LEASE_S = 20.0
_RENEW_S = 5.0
# Redis forgets the oldest beyond these, so that nobody fills it: 100,000 marks of 200 bytes, 512 answers of 64 KiB.
_MAX_MARKS = 100_000
_MAX_ANSWERS = 512
# Who sends a key asks for care more than for speed: a slow Redis is waited for.
_REDIS_TIMEOUT_S = 2.0
_BREAKER_OPEN_S = 5.0
_NONCE_BYTES = 12

_PREFIX = "chappe:repeat:"
_MARKS, _ANSWERS = _PREFIX + "marks", _PREFIX + "answers"
# KEYS[1] the mark, ARGV[1] what it shall say, ARGV[2] for how many milliseconds. Answers what it says if it is there.
_TAKE = """
local said = redis.call('GET', KEYS[1])
if said then return said end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
# KEYS[1] the mark or answer, KEYS[2] all of its kind, newest first. ARGV[3] how many there may be.
_KEEP = """
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('LPUSH', KEYS[2], KEYS[1])
while redis.call('LLEN', KEYS[2]) > tonumber(ARGV[3]) do
  redis.call('UNLINK', redis.call('RPOP', KEYS[2]))
end
"""
# KEYS[1] the mark, ARGV[1] what it says if it is still ours.
_FREE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('UNLINK', KEYS[1]) end"


class _Mark(Struct, frozen=True, array_like=True):
    """What Redis knows of a key."""

    digest: bytes
    request_id: str
    is_done: bool = False


class Answer(Struct, frozen=True, array_like=True):
    """An answer of status 200, ready to be given again. `request_id` is the one that was charged."""

    request_id: str
    content_type: bytes
    body: bytes


class Repeated(Exception):
    """The request was answered before: this is what to say again."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.request_id)
        self.answer = answer


@dataclass(slots=True)
class Claim:
    """A request that has its key, from admission until it is settled."""

    request_id: str
    digest: bytes
    mark_key: str
    answer_key: bytes = field(repr=False)
    kept_for_s: float
    """How long the tenant lets its answers be kept."""
    parts: list[bytes] = field(default_factory=list, repr=False)
    size: int = 0

    @property
    def keeps(self) -> bool:
        """Whether the answer is of use to a repeat."""
        return self.kept_for_s > 0 and self.size <= MAX_ANSWER_BYTES

    def add(self, part: bytes) -> None:
        """More of the answer, as it went out."""
        self.size += len(part)
        if self.keeps:
            self.parts.append(part)
        else:
            self.parts.clear()

    def mark(self, *, is_done: bool = False) -> bytes:
        return _encoder.encode(_Mark(self.digest, self.request_id, is_done))


_Args = list[bytes | int]
_encoder = msgspec.msgpack.Encoder()
_mark_decoder = msgspec.msgpack.Decoder(_Mark)
_answer_decoder = msgspec.msgpack.Decoder(Answer)


def read_key(headers: Headers) -> bytes | None:
    """The client's key; None without one. Raises `Invalid` for two, and for one that is no printable ASCII."""
    found = [value for name, value in headers if name == HEADER]
    if not found:
        return None
    if len(found) > 1:
        raise Invalid(f"send one {_PARAM}", code="invalid_idempotency_key", param=_PARAM)
    key = found[0]
    if not 1 <= len(key) <= _MAX_KEY_LENGTH or not all(ord(" ") <= byte <= ord("~") for byte in key):
        raise Invalid(
            f"{_PARAM} must have 1 to {_MAX_KEY_LENGTH} printable ASCII characters",
            code="invalid_idempotency_key",
            param=_PARAM,
        )
    return key


class RepeatSeal:
    """What is derived from the region's credential: all gateways of a region derive the same, and nobody else does."""

    def __init__(self, region_credential: str, region: str) -> None:
        self._root = hmac.digest(region_credential.encode(), b"chappe repeats 1 " + region.encode(), "sha256")

    def claim(
        self, request_id: str, *, project_id: UUID, key: bytes, path: str, body: bytes, kept_for_s: float
    ) -> Claim:
        """Keys of different projects have nothing to do with each other; the path counts as part of the body."""
        # The key's length stands first: no other key and body give the same bytes.
        named = project_id.bytes + len(key).to_bytes(2, "big") + key
        mark_key = _PREFIX + b64encode(self._derive(b"mark", named)).decode()
        digest = self._derive(b"digest", named + path.encode() + b"\n" + body)
        return Claim(request_id, digest, mark_key, self._derive(b"answer", named), min(kept_for_s, REMEMBERED_S))

    def line_digest(self, batch_id: UUID, line: int) -> bytes:
        """What a line of a batch is charged once by."""
        return self._derive(b"line", batch_id.bytes + line.to_bytes(8, "big"))

    def _derive(self, purpose: bytes, data: bytes) -> bytes:
        return hmac.digest(self._root, purpose + b"\0" + data, "sha256")


class Repeats:
    """All keys that this gateway's requests have taken. One per process."""

    def __init__(self, redis_client: "redis.asyncio.Redis", seal: RepeatSeal, clock: Clock) -> None:
        self._redis = redis_client
        self.seal = seal
        self._clock = clock
        self._take = redis_client.register_script(_TAKE)
        self._keep = redis_client.register_script(_KEEP)
        self._free = redis_client.register_script(_FREE)
        self._running: dict[str, Claim] = {}
        """By mark."""
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._broken_until = 0.0

    async def claim(
        self, request_id: str, headers: Headers, *, project_id: UUID, path: str, body: bytes, kept_for_s: float
    ) -> Claim | None:
        """Take the client's key for this request; None if it has sent none. Who gets a claim ends it once.

        Raises `Repeated`, `Conflict`, `RequestInProgress`, `Invalid`.
        """
        key = read_key(headers)
        if key is None:
            return None
        claim = self.seal.claim(request_id, project_id=project_id, key=key, path=path, body=body, kept_for_s=kept_for_s)
        # One at a time asks Redis about one key: what runs here is known here.
        async with self._turns.setdefault(claim.mark_key, asyncio.Lock()):
            if (first := self._running.get(claim.mark_key)) is not None:
                await self._refuse(claim, _Mark(first.digest, first.request_id))
            args: _Args = [claim.mark(), _milliseconds(_LEASE_S)]
            said = await self._ask(lambda: self._take(keys=[claim.mark_key], args=args))
            if said is not None:
                await self._refuse(claim, _mark_decoder.decode(said))
            self._running[claim.mark_key] = claim
        return claim

    async def keep(self, claim: Claim, answer: Answer | None) -> None:
        """The request is charged, or complete: its key stays taken, and its answer is there for a repeat."""
        self._running.pop(claim.mark_key, None)
        if answer is not None and claim.keeps and len(answer.body) <= MAX_ANSWER_BYTES:
            kept: _Args = [_encrypt(claim, answer), _milliseconds(claim.kept_for_s), _MAX_ANSWERS]
            await self._ask(lambda: self._keep(keys=[_answer_name(claim), _ANSWERS], args=kept))
        done: _Args = [claim.mark(is_done=True), _milliseconds(REMEMBERED_S), _MAX_MARKS]
        await self._ask(lambda: self._keep(keys=[claim.mark_key, _MARKS], args=done))

    async def free(self, claim: Claim) -> None:
        """The request cost nothing and gave nothing: with the same key it may be tried again."""
        self._running.pop(claim.mark_key, None)
        await self._ask(lambda: self._free(keys=[claim.mark_key], args=[claim.mark()]))

    async def run(self) -> None:
        """Renew for ever the leases of what runs here."""
        while True:
            await asyncio.sleep(_RENEW_S)
            if self._running:
                await self._ask(self._renew)

    async def _refuse(self, claim: Claim, mark: _Mark) -> None:
        if mark.digest != claim.digest:
            raise Conflict(f"this {_PARAM} came with another body before", code="idempotency_key_reused", param=_PARAM)
        if not mark.is_done:
            raise RequestInProgress(f"the request with this {_PARAM} is still running; ask again for its answer")
        kept = await self._ask(lambda: self._redis.get(_answer_name(claim)))
        answer = _decrypt(claim, kept) if isinstance(kept, bytes) else None
        if answer is not None:
            raise Repeated(answer)
        raise Conflict(
            f"the request with this {_PARAM} was made before as {mark.request_id}, and its answer is not kept",
            code="already_completed",
            param=_PARAM,
        )

    async def _renew(self) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for claim in self._running.values():
                # Only ever longer: after a FLUSHALL another request may have the key, and be done with it.
                pipeline.pexpire(claim.mark_key, _milliseconds(_LEASE_S), gt=True)
            await pipeline.execute()

    async def _ask(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """What Redis answers; None while it is away, for which nobody waits twice."""
        if self._clock.monotonic() < self._broken_until:
            return None
        try:
            async with asyncio.timeout(_REDIS_TIMEOUT_S):
                return await command()
        except (RedisError, OSError, TimeoutError) as error:
            self._broken_until = self._clock.monotonic() + _BREAKER_OPEN_S
            _log.warning("repeats_unknown", reason=type(error).__name__)
            return None


def _answer_name(claim: Claim) -> str:
    return _PREFIX + "answer:" + claim.mark_key.removeprefix(_PREFIX)


def _encrypt(claim: Claim, answer: Answer) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(claim.answer_key).encrypt(nonce, _encoder.encode(answer), claim.digest)


def _decrypt(claim: Claim, kept: bytes) -> Answer | None:
    """None for what is not the answer to this very request."""
    try:
        plain = AESGCM(claim.answer_key).decrypt(kept[:_NONCE_BYTES], kept[_NONCE_BYTES:], claim.digest)
        return _answer_decoder.decode(plain)
    except (InvalidTag, ValueError):
        return None


def _milliseconds(seconds: float) -> int:
    return max(1, int(1000 * seconds))
