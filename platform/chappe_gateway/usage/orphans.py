"""Spools in the cell's folder whose gateway is dead: shipped and matched by whoever looks first, in short turns.

A turn takes the spool's lock, works for a moment and lets go, so that a gateway that comes back waits no longer than
that for its own spool. A living gateway's spool is never even opened: the kernel keeps its lock.
"""

import asyncio
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from chappe_gateway.control_client import ControlClient, ControlUnreachable
from chappe_gateway.usage.commit_log import segment_paths
from chappe_gateway.usage.matcher import Matcher
from chappe_gateway.usage.matching import Cases
from chappe_gateway.usage.shipper import MAX_BATCH, Shipper
from chappe_gateway.usage.spool import Life, Spool
from chappe_gateway.usage.spool_lock import SpoolTaken

_log = structlog.get_logger()

_BATCHES_PER_TURN = 10
# A turn of another's is short. Whoever keeps the lock over so many looks is the owner, who matches by itself.
_LOOKS_UNTIL_OWNER = 3


@dataclass(slots=True)
class _Orphan:
    cases: Cases
    lives: list[Life] = field(default_factory=list)
    is_rested: bool = False
    """Nothing was left to do when we last let go of it."""
    looked_at: tuple[tuple[int, int], ...] = ()
    """What its files were like then: another life of its owner, or another's turn, changes that."""
    epoch: str | None = None
    sent_again: str | None = None
    """The epoch whose database has all of it, or to whom somebody else says so."""
    locked_looks: int = 0


class Orphans:
    """One per gateway process. `own` is this process's spool."""

    def __init__(self, own: Path, region: str, control: ControlClient, matcher: Matcher, *, period_s: float) -> None:
        self._own = own
        self._region = region
        self._control = control
        self._matcher = matcher
        self._period_s = period_s
        self._known: dict[Path, _Orphan] = {}
        self._looked_for: str | None = None

    async def run(self, own_shipper: Shipper) -> None:
        """Look at all others for ever."""
        while True:
            await asyncio.sleep(self._period_s)
            await self.look(own_shipper.epoch)

    def have_sent_again(self, epoch: str) -> bool:
        """Whether the database of this epoch has all that dead gateways recorded, as far as they were ours to ship."""
        return self._looked_for == epoch and all(orphan.sent_again == epoch for orphan in self._known.values())

    async def look(self, epoch: str | None) -> None:
        """One turn with each orphan. `epoch` is the control plane's database, as far as it is known."""
        for path in sorted(self._own.parent.glob("*.sqlite")):
            if path == self._own:
                continue
            orphan = self._known.setdefault(path, _Orphan(self._matcher.new_cases()))
            is_due = self._matcher.has_due(orphan.cases)
            if is_due or not orphan.is_rested or (orphan.looked_at, orphan.epoch) != (_look(path), epoch):
                await self._take_turn(path, orphan, epoch)
        self._looked_for = epoch

    async def _take_turn(self, path: Path, orphan: _Orphan, epoch: str | None) -> None:
        spool = Spool(path, max_rows=0, min_free_bytes=0)
        try:
            await spool.open()
        except SpoolTaken:
            # Whoever has it, its gateway or another that looks after it, says itself how far it is.
            orphan.sent_again = epoch
            orphan.locked_looks += 1
            if orphan.locked_looks == _LOOKS_UNTIL_OWNER:
                self._forget(orphan)
            return
        except (sqlite3.Error, OSError) as error:
            _log.error("orphaned_spool_unusable", spool=path.name, reason=type(error).__name__)
            return
        orphan.locked_looks = 0
        try:
            orphan.is_rested = await self._work(spool, orphan, epoch)
        except (sqlite3.Error, OSError) as error:
            _log.error("orphaned_spool_unusable", spool=path.name, reason=type(error).__name__)
        finally:
            await asyncio.to_thread(spool.close)
            orphan.looked_at = _look(path)

    async def _work(self, spool: Spool, orphan: _Orphan, epoch: str | None) -> bool:
        """Whether nothing is left to do."""
        lives = await spool.lives()
        if not lives or lives[-1].region != self._region:
            # Another cell's, or written by a version that did not sign its spool: only its own gateway can ship it.
            orphan.sent_again = epoch
            return True
        matched = True
        if lives != orphan.lives:
            self._forget(orphan)
            matched = await self._matcher.take_over(spool, lives, orphan.cases)
            if matched:
                orphan.lives = lives
                _log.warning("spool_orphaned", gateway=lives[-1].gateway, unsettled=len(orphan.cases))
        if matched:
            await self._matcher.settle_due(spool, orphan.cases)
        return await self._ship(spool, lives[-1].gateway, orphan, epoch) and matched

    async def _ship(self, spool: Spool, gateway: str, orphan: _Orphan, epoch: str | None) -> bool:
        shipper = Shipper(spool, self._control, gateway, epoch=orphan.epoch)
        try:
            if epoch is not None:
                await shipper.saw_epoch(epoch)
            orphan.epoch = epoch
            for _ in range(_BATCHES_PER_TURN):
                if await shipper.ship() < MAX_BATCH:
                    orphan.sent_again = epoch
                    await shipper.forget_old()
                    return True
        except ControlUnreachable:
            pass
        return False

    def _forget(self, orphan: _Orphan) -> None:
        self._matcher.let_go(orphan.lives)
        orphan.lives = []
        orphan.cases = self._matcher.new_cases()


def _look(path: Path) -> tuple[tuple[int, int], ...]:
    found = []
    for file in (path, path.with_name(path.name + "-wal"), *segment_paths(path)):
        try:
            stat = file.stat()
        except FileNotFoundError:
            continue
        found.append((stat.st_size, stat.st_mtime_ns))
    return tuple(found)
