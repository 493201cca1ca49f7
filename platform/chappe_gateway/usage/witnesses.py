"""The second witness, wired: slips for this gateway's requests, its own earlier lives, and the orphans of its cell."""

import asyncio
import sqlite3
from collections.abc import Coroutine
from typing import Any

import structlog

from chappe_gateway.control_client import ControlClient
from chappe_gateway.settings import GatewaySettings
from chappe_gateway.usage.matcher import Matcher
from chappe_gateway.usage.orphans import Orphans
from chappe_gateway.usage.records import EngineRecords
from chappe_gateway.usage.shipper import Shipper
from chappe_gateway.usage.slips import SlipSeal
from chappe_gateway.usage.spool import Life, Spool
from chappe_kernel.clock import Clock
from chappe_kernel.ids import new_id

_log = structlog.get_logger()

# A gateway that starts waits so long for its own spool: another's turn with it is short, an old process may be ending.
_WAIT_FOR_SPOOL_S = 30.0
_LOOKS_PER_SILENCE = 10
_MAX_PERIOD_S = 1.0


class Witnesses:
    """One per gateway process, which is one life of its spool."""

    def __init__(
        self, settings: GatewaySettings, clock: Clock, records: EngineRecords, spool: Spool, control: ControlClient
    ) -> None:
        self._settings = settings
        self._records = records
        self._spool = spool
        self._life = new_id()
        self.seal = SlipSeal(settings.region_credential, settings.region, self._life)
        self._matcher = Matcher(records, self.seal, clock, settings.match_after_s)
        self._orphans = Orphans(spool.path, settings.region, control, self._matcher, period_s=settings.orphan_look_s)
        self._earlier: list[Life] = []

    async def start(self) -> None:
        """Take the spool and sign it, before the first request. Raises `SpoolTaken`."""
        await self._spool.open(_WAIT_FOR_SPOOL_S)
        self._earlier = await self._spool.lives()
        self._records.tell(self._matcher)
        settings = self._settings
        await self._spool.begin(Life(self._life, settings.region, settings.gateway_id, await self._records.position()))

    def background(self, shipper: Shipper) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the requests."""
        return [self._match_own(), self._orphans.run(shipper)]

    def have_sent_again(self, epoch: str) -> bool:
        """Whether the database of this epoch has what dead gateways of the cell had recorded."""
        return self._orphans.have_sent_again(epoch)

    def doubt(self, request_id: str) -> None:
        """Settled without the engine's last word."""
        self._records.forget(request_id)
        self._matcher.doubt(request_id)

    async def _match_own(self) -> None:
        period_s = min(_MAX_PERIOD_S, self._settings.match_after_s / _LOOKS_PER_SILENCE)
        collected = not self._earlier
        while True:
            await asyncio.sleep(period_s)
            try:
                if not collected:
                    collected = await self._matcher.take_over(self._spool, self._earlier, self._matcher.own)
                    if len(self._matcher.own):
                        _log.warning("requests_unsettled", requests=len(self._matcher.own))
                await self._matcher.settle_due(self._spool, self._matcher.own)
            except (sqlite3.Error, OSError) as error:
                # A disk that fails now works later: what is due stays due.
                _log.error("spool_unreadable", reason=type(error).__name__)
