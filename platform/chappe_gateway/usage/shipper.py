"""Brings spooled events to the control plane: at least once, in batches, soon, and again after a restore."""

import asyncio
import contextlib
import sqlite3
import time

import structlog

from chappe_gateway.control_client import ControlClient, ControlUnreachable
from chappe_gateway.usage.spool import Spool

_log = structlog.get_logger()

MAX_BATCH = 2000
_GATHER_S = 0.05
_IDLE_S = 1.0
_FIRST_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 5.0
_KEEP_S = 7 * 24 * 3600
_PRUNE_PERIOD_S = 60.0


class Shipper:
    """One task per gateway process."""

    def __init__(self, spool: Spool, control: ControlClient, gateway_id: str, *, epoch: str | None = None) -> None:
        self._spool = spool
        self._control = control
        self._gateway_id = gateway_id
        self._epoch = epoch
        self._heard = epoch
        """The newest, of which the spool may not have been told yet."""
        self._newest_before = 0
        self._sent_again: str | None = None
        self._pruned_at = 0.0
        self._under_way: asyncio.Task[int] | None = None

    @property
    def epoch(self) -> str | None:
        """The control plane's database, as it was last seen."""
        return self._epoch

    def has_sent_again(self, epoch: str) -> bool:
        """Whether the database of this epoch has all that the spool held when the epoch was first heard of."""
        return self._sent_again == epoch

    async def ship(self) -> int:
        """Send one batch; how many events it had. Raises `ControlUnreachable`, and of the disk `sqlite3.Error`."""
        epoch, heard = self._epoch, self._heard
        batch = await self._spool.unshipped(MAX_BATCH)
        if batch is None:
            self._sent_again = epoch
            return 0
        receipt = await self._control.send_usage(self._gateway_id, batch.events_json)
        if receipt.quarantined:
            _log.error("usage_quarantined", events=receipt.quarantined)
        if receipt.disputed:
            _log.warning("usage_disputed", events=receipt.disputed)
        if self._heard not in (heard, receipt.epoch):
            # Another database was heard of meanwhile: this answer is of one that is gone, and may have lost them.
            return batch.size
        await self._spool.mark_shipped(batch, receipt.epoch)
        await self.saw_epoch(receipt.epoch)
        if epoch == receipt.epoch and batch.last_seq >= self._newest_before:
            self._sent_again = epoch
        return batch.size

    async def saw_epoch(self, epoch: str) -> None:
        """A database of this identity is answering: what another one acknowledged is sent again. Raises like `ship`,
        but for `ControlUnreachable`; then nothing is seen yet."""
        self._heard = epoch
        if epoch == self._epoch:
            return
        again = await self._spool.ship_again_unless(epoch)
        self._newest_before = await self._spool.newest_seq()
        if again:
            _log.warning("usage_sent_again_after_restore", events=again)
            self._spool.committed.set()
        self._epoch = epoch

    async def run(self) -> None:
        """Ship for ever, from what an earlier process left on. A disk that fails is waited for like a control plane
        that is away: what could not be marked is sent once more, and posted once."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                self._under_way = asyncio.create_task(self.ship())
                shipped = await asyncio.shield(self._under_way)
                await self._housekeep()
            except (ControlUnreachable, sqlite3.Error, OSError) as error:
                if backoff_s == _FIRST_BACKOFF_S:
                    _log.warning("usage_not_shipped", reason=str(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)
                continue
            backoff_s = _FIRST_BACKOFF_S
            if shipped < MAX_BATCH:
                await self._wait_for_more()

    async def flush(self) -> None:
        """Send everything that is there, as far as the control plane and the disk take it. After `run` was cancelled:
        a batch that it had under way is waited for, and not sent a second time."""
        if self._under_way is not None:
            await asyncio.gather(self._under_way, return_exceptions=True)
        with contextlib.suppress(ControlUnreachable, sqlite3.Error, OSError):
            while await self.ship():
                pass

    async def forget_old(self) -> None:
        """Delete what was acknowledged so long ago that no restore asks for it."""
        await self._spool.forget_before(time.time() - _KEEP_S)

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
            await self.forget_old()
