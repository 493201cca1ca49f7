"""Settles what a dead gateway could not, and brings up what engines say too late. One for each gateway process.

What a gateway's requests were charged is in that gateway's spool and nowhere else, and whoever has its lock is the only
one who may write there. So a dead gateway's requests are settled into its own spool, by itself when it is back or by
another of the cell: a request cannot get two events. While a gateway lives nobody judges its requests but itself.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from chappe_gateway.usage.matching import Case, Cases, other_story, settle_by_engine
from chappe_gateway.usage.records import EngineRecords
from chappe_gateway.usage.slips import LIFE_CHARACTERS, Slip, SlipSeal
from chappe_gateway.usage.spool import Life, Spool
from chappe_kernel.clock import Clock
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import REQUEST, decode_id
from chappe_kernel.wire.engine import EngineRecord

_log = structlog.get_logger()

_MAX_AT_ONCE = 250
_MAX_DOUBTED = 10_000
_DEAF_S = 4.0
"""A reading that took longer was of a Redis that hung; what engines wrote meanwhile is still on its way."""


class Matcher:
    """Listens to all records that nobody here is waiting for, and keeps those of lives that have ended."""

    def __init__(self, records: EngineRecords, seal: SlipSeal, clock: Clock, silence_s: float) -> None:
        self._records = records
        self._seal = seal
        self._clock = clock
        self._silence_s = silence_s
        self._by_life: dict[str, Cases] = {}
        self._doubted: OrderedDict[str, None] = OrderedDict()
        self._own = Cases(silence_s)
        self._listened_at = clock.monotonic()

    @property
    def own(self) -> Cases:
        """Of this process's spool: its earlier lives, and what it settled itself without the engine's last word."""
        return self._own

    def hear(self, record: EngineRecord, at_ms: int) -> None:
        """Called for each record of the region, so it must be quick for those that don't matter."""
        cases = self._by_life.get(record.slip[:LIFE_CHARACTERS])
        if cases is None and record.request_id in self._doubted:
            cases = self._own
        if cases is not None:
            cases.hear(record, at_ms, self._clock.monotonic())

    def listened(self) -> None:
        """Called after each reading, every two seconds at least."""
        now = self._clock.monotonic()
        if now - self._listened_at > _DEAF_S:
            self.listen_again()
        self._listened_at = now

    def listen_again(self) -> None:
        """Redis is back: silence begins to count now."""
        now = self._clock.monotonic()
        for cases in {id(cases): cases for cases in (self._own, *self._by_life.values())}.values():
            cases.listen_again(now)

    def doubt(self, request_id: str) -> None:
        """It is settled without its engine's last word: that may still come."""
        self._doubted[request_id] = None
        while len(self._doubted) > _MAX_DOUBTED:
            self._doubted.popitem(last=False)

    def new_cases(self) -> Cases:
        """For a spool that is taken over."""
        return Cases(self._silence_s)

    async def take_over(self, spool: Spool, lives: Sequence[Life], cases: Cases) -> bool:
        """Collect what engines reported of these lives, which have ended. False: Redis is away, ask again.

        Needs the spool's lock, so that what is settled already needs no case.
        """
        if not self._records.following.is_set():
            return False
        for life in lives:
            self._by_life[life.id.hex] = cases
        names = {life.id.hex for life in lives}
        try:
            async for portion in self._records.scan(min((life.records_after for life in lives), key=_position)):
                for at_ms, record in portion:
                    if record.slip[:LIFE_CHARACTERS] in names:
                        cases.hear(record, at_ms, self._clock.monotonic())
                await self._drop_settled(spool, cases, {record.request_id for _, record in portion})
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("engine_records_unreadable", reason=type(error).__name__)
            self.let_go(lives)
            return False
        return True

    def let_go(self, lives: Iterable[Life]) -> None:
        """Their gateway is alive again and has its spool back."""
        for life in lives:
            self._by_life.pop(life.id.hex, None)

    def has_due(self, cases: Cases) -> bool:
        """Whether `settle_due` would find something."""
        return bool(cases.due(self._listened_at, 1))

    async def settle_due(self, spool: Spool, cases: Cases) -> int:
        """Settle into `spool`, whose lock we have, every case of it that is due. How many events it got."""
        made = 0
        # Silence that nobody listened to is none.
        while due := cases.due(self._listened_at, _MAX_AT_ONCE):
            made += await self._settle(spool, cases, due)
        return made

    async def _settle(self, spool: Spool, cases: Cases, due: Sequence[Case]) -> int:
        made = 0
        opened = [(case, self._open(case)) for case in due]
        settled = await spool.find([slip.request_id for _, slip in opened if slip is not None])
        for case, slip in opened:
            # Closed before the commits: a record that comes in meanwhile opens it anew.
            cases.close(case)
            self._doubted.pop(case.request_id, None)
            if slip is None:
                _log.error("slip_not_ours", request_id=case.request_id)
                continue
            event = settled.get(slip.request_id)
            if event is None:
                event = settle_by_engine(slip, case)
                await spool.commit(event)
                _log.warning("settled_by_engine", request_id=case.request_id, outcome=event.outcome)
                made += 1
            elif (other := other_story(slip, event, case)) is not None:
                await spool.commit_other_story(other)
                _log.warning("record_came_late", request_id=case.request_id)
                made += 1
        return made

    async def _drop_settled(self, spool: Spool, cases: Cases, request_ids: Iterable[str]) -> None:
        """Most of what a scan finds was settled while its gateway lived."""
        fresh = [case for case in map(cases.get, request_ids) if case is not None]
        ids = {case.request_id: key for case in fresh if (key := _request_id(case.request_id)) is not None}
        settled = await spool.find(list(ids.values()))
        for case in fresh:
            event = settled.get(ids[case.request_id]) if case.request_id in ids else None
            if event is not None and case.reports.get(event.attempt) == event.generated:
                cases.close(case)

    def _open(self, case: Case) -> Slip | None:
        slip = self._seal.open(case.slip)
        # A seal is good for its own request alone.
        return slip if slip is not None and slip.request_id == _request_id(case.request_id) else None


def _request_id(public_id: str) -> UUID | None:
    try:
        return decode_id(REQUEST, public_id)
    except Invalid:
        return None


def _position(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)
