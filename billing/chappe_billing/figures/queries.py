"""SQL of a tenant's figures. Periods are the database's, in UTC; usage counts when it is posted.

They agree with each other and with the balance when they are read in one snapshot (`Database.tenant_snapshot`).
"""

from datetime import datetime
from functools import cache
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Date, Executable, bindparam, cast, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.usage.models import UsageDay, UsageEvent, UsageHour
from chappe_catalogue.listings.models import Listing
from chappe_store.literals import spelt_out
from chappe_store.session import TenantScope

FIRST_TOKENS = 1000
"""How many of the last requests with a first token say how soon answers begin."""

_SUMMED = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")


class Sums(Struct, frozen=True):
    """`amount_nano` is what the tenant paid."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    amount_nano: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.amount_nano + other.amount_nano,
        )


class OfferSums(Struct, frozen=True):
    """Usage of one model in one region, today and this month."""

    model: str
    region: str
    today: Sums
    month: Sums


class HourSums(Struct, frozen=True):
    hour: datetime
    requests: int
    amount_nano: int


class FirstTokens(Struct, frozen=True):
    """How long first tokens took in one region with one model. Both are times that some request really had."""

    model: str
    region: str
    requests: int
    median_ms: int
    p95_ms: int


async def sum_by_offer(session: AsyncSession, scope: TenantScope) -> list[OfferSums]:
    """This month's usage by model and region, and today's part of it."""
    rows = (await session.execute(_offer_sums(), {"tenant_id": scope.tenant_id})).all()
    split = len(_SUMMED) + 1
    return [
        OfferSums(model, region, _sums(figures[:split]), _sums(figures[split:])) for model, region, *figures in rows
    ]


# To build a statement takes longer than to run it, and the overview is fetched every three seconds: each is built once.
@cache
def _offer_sums() -> Executable:
    today = cast(func.now(), Date)  # The session's time zone is UTC.
    sums = [*(getattr(UsageDay, name) for name in _SUMMED), UsageDay.amount_nano - UsageDay.written_off_nano]
    return (
        select(
            Listing.name,
            UsageDay.region,
            *(func.coalesce(func.sum(one).filter(UsageDay.day == today), 0) for one in sums),
            *(func.sum(one) for one in sums),
        )
        .join(Listing, Listing.id == UsageDay.listing_id)
        .where(
            UsageDay.tenant_id == bindparam("tenant_id"),
            UsageDay.day >= cast(func.date_trunc("month", func.now()), Date),
        )
        .group_by(Listing.name, UsageDay.region)
        .order_by(Listing.name, UsageDay.region)
    )


async def sum_by_hour(session: AsyncSession, scope: TenantScope, hours: int) -> list[HourSums]:
    """The last `hours` that have begun, the present one included, ascending; quiet ones with zeros."""
    rows = await session.execute(_hour_sums(int(hours)), {"tenant_id": scope.tenant_id})
    return [HourSums(hour, int(requests), int(amount_nano)) for hour, requests, amount_nano in rows]


@cache
def _hour_sums(hours: int) -> Executable:
    first = func.date_trunc("hour", func.now()) - text(f"interval '{hours - 1} hours'")
    every = select(
        func.generate_series(first, func.date_trunc("hour", func.now()), text("interval '1 hour'")).label("hour")
    ).subquery()
    used = (
        select(
            UsageHour.hour,
            func.sum(UsageHour.requests).label("requests"),
            func.sum(UsageHour.amount_nano - UsageHour.written_off_nano).label("amount_nano"),
        )
        .where(UsageHour.tenant_id == bindparam("tenant_id"), UsageHour.hour >= first)
        .group_by(UsageHour.hour)
        .subquery()
    )
    return (
        select(every.c.hour, func.coalesce(used.c.requests, 0), func.coalesce(used.c.amount_nano, 0))
        .join(used, used.c.hour == every.c.hour, isouter=True)
        .order_by(every.c.hour)
    )


async def first_tokens(session: AsyncSession, scope: TenantScope) -> list[FirstTokens]:
    """By model and region, of those of the tenant's last `FIRST_TOKENS` requests that had a first token."""
    rows = await session.execute(_first_tokens(), {"tenant_id": scope.tenant_id})
    return [FirstTokens(model, region, requests, *times) for model, region, requests, times in rows]


@cache
def _first_tokens() -> Executable:
    latest = (
        select(UsageEvent.listing_id, UsageEvent.region, UsageEvent.ttft_ms)
        .where(UsageEvent.tenant_id == bindparam("tenant_id"))
        .order_by(UsageEvent.request_id.desc())
        .limit(spelt_out(FIRST_TOKENS))
        .subquery()
    )
    shares: ColumnElement[Any] = literal_column("ARRAY[0.5, 0.95]::float8[]")
    return (
        select(
            Listing.name,
            latest.c.region,
            func.count(),
            func.percentile_disc(shares).within_group(latest.c.ttft_ms.asc()),
        )
        .join(Listing, Listing.id == latest.c.listing_id)
        .where(latest.c.ttft_ms.is_not(None))
        .group_by(Listing.name, latest.c.region)
        .order_by(Listing.name, latest.c.region)
    )


def _sums(figures: Any) -> Sums:
    return Sums(*(int(figure) for figure in figures))
