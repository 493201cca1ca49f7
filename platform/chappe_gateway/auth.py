"""Who is calling: API keys, resolved through the control plane by their HMAC, remembered while that is safe.

A browser token is resolved as the key that it stands for, remembered no longer than it lives, and taken from pages of
the portal only: elsewhere it was stolen.
"""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from chappe_gateway import cors
from chappe_gateway.control_client import ControlClient
from chappe_gateway.errors import Headers
from chappe_gateway.snapshot import View
from chappe_kernel.api_keys import KeyKind, digest_key, is_browser_token, is_well_formed
from chappe_kernel.clock import Clock
from chappe_kernel.errors import Denied, Unauthenticated, Unavailable
from chappe_kernel.wire.control import KeyDigest, KeyFacts, ResolveKey

_MAX_KNOWN = 20_000
_MAX_UNKNOWN = 20_000
_UNKNOWN_FOR_S = 10.0
# Several revisions in a row while one key is looked up: give up and let the client try again.
_MAX_LOOKUPS = 4


class _Known(NamedTuple):
    facts: KeyFacts
    until: float | None
    """Monotonic: when to ask again. None: not before the snapshot says otherwise."""


class KeyCache:
    """Key facts by digest, dropped whenever `keys_revision` or the peppers change. Keys themselves are never kept."""

    def __init__(self, control: ControlClient, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._lookups: dict[bytes, asyncio.Task[KeyFacts]] = {}
        self._generation = 0

    def snapshot_changed(self, old: View | None, new: View) -> None:
        """Forget everything when any key's facts may have changed."""
        if (
            old is None
            or old.snapshot.keys_revision != new.snapshot.keys_revision
            or old.snapshot.epoch != new.snapshot.epoch
            or old.peppers != new.peppers
        ):
            self._generation += 1
            self._known.clear()
            self._unknown.clear()
            self._lookups.clear()

    async def authenticate(self, headers: Headers, view: View) -> KeyFacts:
        """The facts of the request's key. Raises `Unauthenticated`, `Denied`, `Unavailable`."""
        key = _bearer(headers)
        if key is None or not is_well_formed(key) or not view.peppers:
            raise Unauthenticated("this is not an API key; send one as `Authorization: Bearer ck_…`")
        if is_browser_token(key) and not cors.is_from(headers, view.portal_origin):
            raise Denied("a browser token opens the inference API to pages of the portal only", code="wrong_origin")
        digest = digest_key(key, view.peppers[0])
        known = self._known.get(digest)
        if known is None or (known.until is not None and self._clock.monotonic() >= known.until):
            facts = await self._resolve(key, digest, view)
        else:
            facts = known.facts
            self._known.move_to_end(digest)
        if not facts.active:
            raise Denied("this account is suspended", code="account_suspended")
        if facts.kind is not KeyKind.INFERENCE:
            raise Denied("a management key does not open the inference API", code="wrong_key_kind")
        return facts

    async def _resolve(self, key: str, digest: bytes, view: View) -> KeyFacts:
        unknown_until = self._unknown.get(digest)
        if unknown_until is not None and self._clock.monotonic() < unknown_until:
            raise Unauthenticated("this API key does not exist")
        question = ResolveKey(tuple(KeyDigest(pepper.version, digest_key(key, pepper)) for pepper in view.peppers))
        for _ in range(_MAX_LOOKUPS):
            generation = self._generation
            facts = await asyncio.shield(self._shared_lookup(digest, question))
            if generation == self._generation:
                return facts
        raise Unavailable("API keys are changing; try again", code="key_lookup_unavailable")

    def _shared_lookup(self, digest: bytes, question: ResolveKey) -> asyncio.Task[KeyFacts]:
        lookup = self._lookups.get(digest)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(digest, question, self._generation))
            self._lookups[digest] = lookup
        return lookup

    async def _look_up(self, digest: bytes, question: ResolveKey, generation: int) -> KeyFacts:
        asked_at = self._clock.monotonic()
        try:
            facts = await self._control.resolve_key(question)
        except Unauthenticated:
            if generation == self._generation:
                self._known.pop(digest, None)
                self._unknown[digest] = self._clock.monotonic() + _UNKNOWN_FOR_S
                if len(self._unknown) > _MAX_UNKNOWN:
                    self._unknown.popitem(last=False)
            raise
        finally:
            if generation == self._generation:
                self._lookups.pop(digest, None)
        if generation == self._generation:
            ends = [asked_at + left for left in (facts.valid_for_s, facts.quotas_hold_for_s) if left is not None]
            self._known[digest] = _Known(facts, min(ends, default=None))
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return facts


def _bearer(headers: Headers) -> str | None:
    """The key of the one `Authorization` header; two of them are as good as none."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, key = values[0].decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
