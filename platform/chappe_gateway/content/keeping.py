"""How long content stays: until its time is over, and no longer than its owner's residency and terms let it."""

import asyncio
from collections.abc import Sequence

import structlog

from chappe_gateway.access.key_feed import Changes
from chappe_gateway.content.objects import Owner
from chappe_gateway.content.store import ContentStore
from chappe_gateway.control_client import ControlClient, ControlUnreachable
from chappe_kernel.errors import Unavailable
from chappe_kernel.wire.control import ContentHolder

_log = structlog.get_logger()

_ASK_AT_ONCE = 500


class ContentKeeper:
    """One per gateway process; that several do the same work harms nothing."""

    def __init__(self, store: ContentStore, control: ControlClient, period_s: float) -> None:
        self._store = store
        self._control = control
        self._period_s = period_s
        self._changed = asyncio.Event()

    def keys_changed(self, _: Changes) -> None:
        """Somebody's residency or terms may be narrower now: look at once."""
        self._changed.set()

    async def run(self) -> None:
        """Look for ever. While the control plane is away only time deletes."""
        while True:
            try:
                await self.look()
            except (ControlUnreachable, Unavailable) as error:
                _log.warning("content_not_looked_at", reason=error.code)
            try:
                async with asyncio.timeout(self._period_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()

    async def look(self) -> None:
        """Delete what may not stay. Raises `ControlUnreachable`, `Unavailable`."""
        gone = 0
        try:
            owners = await self._store.owners()
            for begin in range(0, len(owners), _ASK_AT_ONCE):
                gone += await self._keep_terms(owners[begin : begin + _ASK_AT_ONCE])
        finally:
            gone += await self._store.sweep()
            if gone:
                _log.info("content_deleted", objects=gone)

    async def _keep_terms(self, owners: Sequence[Owner]) -> int:
        asked = [ContentHolder(owner.tenant_id, owner.project_id) for owner in owners]
        gone = 0
        for terms in await self._control.read_content_terms(asked):
            owner = Owner(terms.holder.tenant_id, terms.holder.project_id)
            gone += await self._store.keep_within(owner, terms.kept_for_s)
        return gone
