"""What is used and booked, hour by hour, without reading again and again what cannot change any more."""

from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.console.revenue.queries import BookedInHour, UsedInHour, booked_by_hour, used_by_hour
from chappe_kernel.clock import Clock

# A transaction counts in the hour in which it began. It may commit later, but not for long: its statements time out.
_SETTLING = timedelta(minutes=15)
# Past hours are read anew now and then all the same: who tampers with them shall not wait for the next start.
_TRUST_PAST_S = 300.0
# Comparing with the ledger costs as much as was posted this hour. It may take a hundredth of the time, no more.
_COMPARE_SHARE = 100
_COMPARE_AGAIN_S = 300.0

_HOUR = timedelta(hours=1)


class _OfHour(Protocol):
    @property
    def hour(self) -> datetime: ...


H = TypeVar("H", bound=_OfHour)


class _Read(Protocol[H]):
    def __call__(self, session: AsyncSession, *, since: datetime, until: datetime) -> Awaitable[list[H]]: ...


class Booked(Struct, frozen=True):
    """Usage and ledger of the same hours, read at one instant."""

    as_of: datetime
    used: Sequence[UsedInHour]
    booked: Sequence[BookedInHour]


class HourBook:
    """Sums of a period that ends now. One for the process: whoever looks shares what another one read."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._used = _Hours(used_by_hour, clock)
        self._booked = _Hours(booked_by_hour, clock)
        self._compared: Booked | None = None
        self._compare_at = float("-inf")

    async def used(self, session: AsyncSession, since: datetime, now: datetime) -> list[UsedInHour]:
        """Usage from `since`, a full hour, until now."""
        return await self._used.read(session, since, now)

    async def compared(self, session: AsyncSession, since: datetime, now: datetime) -> Booked:
        """Usage and ledger from `since` on, as of now or, where much was posted this hour, of a little while ago."""
        began = self._clock.monotonic()
        known = self._compared
        if known is not None and began < self._compare_at and known.as_of >= since:
            return known
        used = await self._used.read(session, since, now)
        booked = await self._booked.read(session, since, now)
        self._compared = Booked(now, used, booked)
        cost_s = self._clock.monotonic() - began
        self._compare_at = began + min(_COMPARE_SHARE * cost_s, _COMPARE_AGAIN_S)
        return self._compared


class _Hours(Generic[H]):
    """One kind of sums: hours that are over are kept, the others are read each time."""

    def __init__(self, read: _Read[H], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._past: list[H] = []
        self._since: datetime | None = None
        self._until: datetime | None = None
        self._forget_at = float("-inf")

    async def read(self, session: AsyncSession, since: datetime, now: datetime) -> list[H]:
        open_from = max(since, begin_of_hour(now - _SETTLING))
        if (
            self._since is None
            or since < self._since
            or open_from != self._until
            or self._clock.monotonic() >= self._forget_at
        ):
            self._past = await self._read(session, since=since, until=open_from) if since < open_from else []
            self._since, self._until = since, open_from
            self._forget_at = self._clock.monotonic() + _TRUST_PAST_S
        past = [row for row in self._past if row.hour >= since]
        return past + await self._read(session, since=open_from, until=now + _HOUR)


def begin_of_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def begin_of_day(moment: datetime) -> datetime:
    """Of the database's times, which are in UTC."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
