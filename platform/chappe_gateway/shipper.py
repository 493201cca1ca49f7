"""Brings spooled events to the control plane: at least once, in batches, soon, and again after a restore."""

import asyncio
import contextlib
import time

import structlog

from chappe_gateway.control_client import ControlClient, ControlUnreachable
from chappe_gateway.spool import Spool

_log = structlog.get_logger()

MAX_BATCH = 500
_GATHER_S = 0.05
_IDLE_S = 1.0
_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 5.0
_KEEP_S = 7 * 24 * 3600
_PRUNE_PERIOD_S = 60.0


class Shipper:
    """One task per gateway process."""

    def __init__(self, spool: Spool, control: ControlClient, gateway_id: str) -> None:
        self._spool = spool
        self._control = control
        self._gateway_id = gateway_id
        self._epoch: str | None = None
        self._pruned_at = 0.0

    async def ship(self) -> int:
        """Send one batch; how many events it had. Raises `ControlUnreachable`."""
        batch = await self._spool.unshipped(MAX_BATCH)
        if batch is None:
            return 0
        receipt = await self._control.send_usage(self._gateway_id, batch.events_json)
        if receipt.quarantined:
            _log.error("usage_quarantined", events=receipt.quarantined)
        await self._spool.mark_shipped(batch, receipt.epoch)
        await self.saw_epoch(receipt.epoch)
        return batch.size

    async def saw_epoch(self, epoch: str) -> None:
        """A database of this identity is answering: what another one acknowledged is sent again."""
        if epoch == self._epoch:
            return
        again = await self._spool.ship_again_unless(epoch)
        if again:
            _log.warning("usage_sent_again_after_restore", events=again)
            self._spool.committed.set()
        self._epoch = epoch

    async def run(self) -> None:
        """Ship for ever, from what an earlier process left on."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                shipped = await self.ship()
            except ControlUnreachable as error:
                if backoff_s == _FIRST_BACKOFF_S:
                    _log.warning("usage_not_shipped", reason=error.message)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)
                continue
            backoff_s = _FIRST_BACKOFF_S
            await self._housekeep()
            if shipped < MAX_BATCH:
                await self._wait_for_more()

    async def flush(self) -> None:
        """Send everything that is there, as far as the control plane takes it."""
        with contextlib.suppress(ControlUnreachable):
            while await self.ship():
                pass

    async def _wait_for_more(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                await self._spool.committed.wait()
            # Others that end at the same time go along.
            await asyncio.sleep(_GATHER_S)
        self._spool.committed.clear()

    async def _housekeep(self) -> None:
        self._spool.look_at_disk()
        now = time.time()
        if now - self._pruned_at > _PRUNE_PERIOD_S:
            self._pruned_at = now
            await self._spool.forget_before(now - _KEEP_S)
