"""Who waits for money that is lent, and who should give back what lies idle of it. In memory, and only hints: what is
lent is decided by the database alone, and whoever still needs money asks again.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from uuid import UUID

from chappe_kernel.clock import Clock
from chappe_kernel.ids import new_id
from chappe_kernel.wire import control as wire

# A gateway that was told gives back for a second whatever becomes idle: telling it sooner again would change nothing.
AGAIN_S = 0.4
_REMEMBERED_S = 2.0

Holder = tuple[str, str]
"""A gateway: its region and its name."""


class Shortages:
    """One per process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._id = new_id().hex
        self._number = 0
        self._recalls: dict[Holder, dict[UUID, tuple[int, float]]] = {}
        """By holder and tenant: the newest recall's number, and when it was."""
        self._listening: dict[Holder, set[asyncio.Event]] = {}
        self._waiting: dict[UUID, set[asyncio.Event]] = {}

    @asynccontextmanager
    async def waiting(self, tenant_id: UUID) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever money of the tenant's may have come back."""
        event = asyncio.Event()
        waiting = self._waiting.setdefault(tenant_id, set())
        waiting.add(event)
        try:
            yield event
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(tenant_id, None)

    def came_back(self, tenant_ids: Iterable[UUID]) -> None:
        """Money of these tenants was returned, or settled: whoever waits for it should look."""
        for tenant_id in tenant_ids:
            for event in self._waiting.get(tenant_id, ()):
                event.set()

    def recall(self, tenant_id: UUID, holders: Collection[Holder]) -> None:
        """Tell these gateways that somebody needs what they do not."""
        now = self._clock.monotonic()
        for holder in holders:
            recalls = self._recalls.setdefault(holder, {})
            _, told_at = recalls.get(tenant_id, (0, float("-inf")))
            if now < told_at + AGAIN_S:
                continue
            self._number += 1
            recalls[tenant_id] = (self._number, now)
            for event in self._listening.get(holder, ()):
                event.set()
        self._forget_old(now)

    async def recalls_of(self, holder: Holder, cursor: str, wait_s: float) -> wire.Recalls:
        """What the gateway was not told yet; waits for it if there is nothing. Of another process's cursor, all."""
        event = asyncio.Event()
        listening = self._listening.setdefault(holder, set())
        listening.add(event)
        try:
            async with asyncio.timeout(wait_s):
                while not (tenants := self._since(holder, cursor)):
                    event.clear()
                    await event.wait()
        except TimeoutError:
            tenants = ()
        finally:
            listening.discard(event)
            if not listening:
                self._listening.pop(holder, None)
        return wire.Recalls(f"{self._id}:{self._number}", tenants)

    def _since(self, holder: Holder, cursor: str) -> tuple[UUID, ...]:
        own, _, number = cursor.partition(":")
        since = int(number) if own == self._id and number.isascii() and number.isdecimal() else 0
        return tuple(tenant for tenant, (told, _) in self._recalls.get(holder, {}).items() if told > since)

    def _forget_old(self, now: float) -> None:
        for holder, recalls in tuple(self._recalls.items()):
            kept = {tenant: told for tenant, told in recalls.items() if now < told[1] + _REMEMBERED_S}
            if kept:
                self._recalls[holder] = kept
            else:
                del self._recalls[holder]
