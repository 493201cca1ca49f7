"""Who is calling: API keys, resolved through the control plane by their HMAC, remembered while that is safe.

A browser token is resolved as the key that it stands for, remembered no longer than it lives, and taken from pages of
the portal only: elsewhere it was stolen.
"""

import asyncio
from collections import OrderedDict
from typing import NamedTuple
from uuid import UUID

from chappe_gateway.access.key_feed import Changes
from chappe_gateway.access.snapshot import View
from chappe_gateway.control_client import ControlClient
from chappe_gateway.edge import cors
from chappe_gateway.edge.errors import Headers
from chappe_kernel.api_keys import BROWSER_TOKEN_PREFIX, KeyKind, digest_key, is_well_formed
from chappe_kernel.clock import Clock
from chappe_kernel.errors import Denied, Unauthenticated, Unavailable
from chappe_kernel.wire.control import KeyDigest, KeyFacts, ResolveKey

_TOKEN_PREFIX = BROWSER_TOKEN_PREFIX.encode()
_BEARER = b"Bearer "
_AUTHORIZATION = b"authorization"
_SECRET_HEADERS = frozenset({_AUTHORIZATION, b"api-key", b"x-api-key"})
"""OpenAI's, Azure's and Anthropic's. Each opens every path: it is the same key."""
_MAX_KNOWN = 20_000
_MAX_UNKNOWN = 20_000
_UNKNOWN_FOR_S = 10.0
# Changes of keys several times in a row while one key is looked up: give up and let the client try again.
_MAX_LOOKUPS = 4


class Known(NamedTuple):
    """What a secret opens, and for how long."""

    facts: KeyFacts
    until: float | None
    """Monotonic: when its time is over. None: not before something changes."""
    ask_again_at: float | None
    """Monotonic: when what it opens may be another thing without a change, at the latest at its end."""
    opens: bool
    """Whether it opens this API at all."""


class KeyCache:
    """Key facts by digest, dropped when they may have changed or the peppers did. Keys themselves are never kept."""

    def __init__(self, control: ControlClient, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._of_tenant: dict[UUID, set[bytes]] = {}
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._lookups: dict[bytes, asyncio.Task[Known]] = {}
        self.generation = 0
        """Grows whenever something is forgotten: what was found under this number is true as long as it stays."""

    def forget(self, changes: Changes) -> None:
        """Look up anew whatever these changes are about.

        What is being looked up just now may be about them too, and so may a key that was not there before.
        """
        self.generation += 1
        self._lookups.clear()
        self._unknown.clear()
        if changes is None:
            self._known.clear()
            self._of_tenant.clear()
            return
        for change in changes:
            for digest in tuple(self._of_tenant.get(change.tenant_id, ())):
                if change.key_id is None or self._known[digest].facts.key_id == change.key_id:
                    self._drop(digest)

    def snapshot_changed(self, old: View | None, new: View) -> None:
        """Under other peppers the digests are others."""
        if old is None or old.peppers != new.peppers:
            self.forget(None)

    async def authenticate(self, headers: Headers, view: View) -> Known:
        """What the request's secret opens now. Raises `Unauthenticated`, `Denied`, `Unavailable`."""
        secret = _bearer(headers)
        if secret is None or view.digest is None:
            raise _no_key()
        if secret.startswith(_TOKEN_PREFIX):
            _check_origin(secret.decode("latin-1"), headers, view)
        digest = view.digest(secret)
        known = self._known.get(digest)
        if known is None or (known.ask_again_at is not None and self._clock.monotonic() >= known.ask_again_at):
            known = await self._resolve(secret.decode("latin-1"), digest, view)
        else:
            self._known.move_to_end(digest)
        if not known.opens:
            raise _refusal(known.facts)
        return known

    def stand_in(self, headers: Headers, view: View) -> ResolveKey:
        """What goes on standing for the request's key when its client has left: digests, and no secret. Raises
        `Unauthenticated`, and `Denied` for a browser token, which is over too soon."""
        secret = _bearer(headers)
        if secret is None:
            raise _no_key()
        if secret.startswith(_TOKEN_PREFIX):
            raise Denied("this takes a key: a browser token is over too soon", code="wrong_key_kind")
        return _question(secret.decode("latin-1"), view)

    async def authenticate_again(self, stand_in: ResolveKey) -> Known:
        """What a key opens now that was shown before. Raises `Unauthenticated`, `Denied`, `Unavailable`."""
        digest = stand_in.digests[0].digest
        known = self._known.get(digest)
        if known is None or (known.ask_again_at is not None and self._clock.monotonic() >= known.ask_again_at):
            known = await self._insist(digest, stand_in)
        if not known.opens:
            raise _refusal(known.facts)
        return known

    async def _resolve(self, key: str, digest: bytes, view: View) -> Known:
        # Only here: a digest that is known has been well-formed before.
        if not is_well_formed(key):
            raise _no_key()
        unknown_until = self._unknown.get(digest)
        if unknown_until is not None and self._clock.monotonic() < unknown_until:
            raise Unauthenticated("this API key does not exist")
        return await self._insist(digest, _question(key, view))

    async def _insist(self, digest: bytes, question: ResolveKey) -> Known:
        for _ in range(_MAX_LOOKUPS):
            generation = self.generation
            known = await asyncio.shield(self._shared_lookup(digest, question))
            if generation == self.generation:
                return known
        raise Unavailable("API keys are changing; try again", code="key_lookup_unavailable")

    def _shared_lookup(self, digest: bytes, question: ResolveKey) -> "asyncio.Task[Known]":
        lookup = self._lookups.get(digest)
        if lookup is None:
            lookup = asyncio.create_task(self._look_up(digest, question, self.generation))
            self._lookups[digest] = lookup
        return lookup

    async def _look_up(self, digest: bytes, question: ResolveKey, generation: int) -> Known:
        asked_at = self._clock.monotonic()
        try:
            facts = await self._control.resolve_key(question)
        except Unauthenticated:
            if generation == self.generation:
                self._drop(digest)
                self._unknown[digest] = self._clock.monotonic() + _UNKNOWN_FOR_S
                if len(self._unknown) > _MAX_UNKNOWN:
                    self._unknown.popitem(last=False)
            raise
        finally:
            if generation == self.generation:
                self._lookups.pop(digest, None)
        known = _known(facts, asked_at)
        if generation == self.generation:
            self._keep(digest, known)
        return known

    def _keep(self, digest: bytes, known: Known) -> None:
        self._drop(digest)
        self._known[digest] = known
        self._of_tenant.setdefault(known.facts.tenant_id, set()).add(digest)
        if len(self._known) > _MAX_KNOWN:
            self._drop(next(iter(self._known)))

    def _drop(self, digest: bytes) -> None:
        known = self._known.pop(digest, None)
        if known is not None:
            digests = self._of_tenant[known.facts.tenant_id]
            digests.discard(digest)
            if not digests:
                del self._of_tenant[known.facts.tenant_id]


def _question(key: str, view: View) -> ResolveKey:
    """The newest pepper's digest first."""
    return ResolveKey(tuple(KeyDigest(pepper.version, digest_key(key, pepper)) for pepper in view.peppers))


def _known(facts: KeyFacts, asked_at: float) -> Known:
    until = None if facts.valid_for_s is None else asked_at + facts.valid_for_s
    # A raise that ends changes limits and takes no right away: what runs by it goes on.
    ends = (facts.valid_for_s, facts.quotas_hold_for_s)
    ask_again_at = min((asked_at + left for left in ends if left is not None), default=None)
    return Known(facts, until, ask_again_at, facts.active and facts.kind is KeyKind.INFERENCE)


def _check_origin(token: str, headers: Headers, view: View) -> None:
    if not is_well_formed(token):
        raise _no_key()
    if not cors.is_from(headers, view.portal_origin):
        raise Denied("a browser token opens the inference API to pages of the portal only", code="wrong_origin")


def _refusal(facts: KeyFacts) -> Denied:
    if not facts.active:
        return Denied("this account is suspended", code="account_suspended")
    return Denied("a management key does not open the inference API", code="wrong_key_kind")


def _no_key() -> Unauthenticated:
    return Unauthenticated("this is not an API key; send one as `Authorization: Bearer ck_…`, `api-key` or `x-api-key`")


def _bearer(headers: Headers) -> bytes | None:
    """The secret of the one header that has one; two of them, of whatever kind, are as good as none."""
    found = None
    kind = _AUTHORIZATION
    # A plain loop: every request pays for it, and it is half of what a comprehension costs.
    for name, value in headers:
        if name in _SECRET_HEADERS:
            if found is not None:
                return None
            found, kind = value, name
    if found is None:
        return None
    if kind != _AUTHORIZATION:
        return found.strip()
    if found.startswith(_BEARER):
        return found[len(_BEARER) :].strip()
    scheme, _, secret = found.partition(b" ")
    return secret.strip() if scheme.lower() == b"bearer" else None
