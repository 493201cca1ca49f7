"""What the overview shows, read in one snapshot so that its figures agree."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.balance.queries import Balance, read_balance
from chappe_billing.figures.queries import (
    FirstTokens,
    HourSums,
    OfferSums,
    Sums,
    first_tokens,
    sum_by_hour,
    sum_by_offer,
)
from chappe_billing.request_log.queries import LogFilter, LoggedRequest, look
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.queries import Beginnings, read_beginnings

HOURS = 24
LATEST = 5


class OfferFigures(Struct, frozen=True):
    """One model in one region. `first_tokens` is None when none of the last requests had a first token there."""

    model: str
    region: str
    today: Sums
    month: Sums
    first_tokens: FirstTokens | None


class Overview(Struct, frozen=True):
    """All as of `read_at`, the database's time. `beginnings` is None once the tenant needs no first steps."""

    read_at: datetime
    balance: Balance
    today: Sums
    month: Sums
    offers: list[OfferFigures]
    timed_requests: int
    hours: list[HourSums]
    latest: list[LoggedRequest]
    beginnings: Beginnings | None


async def read_overview(session: AsyncSession, scope: TenantScope) -> Overview:
    """In a snapshot (`Database.tenant_snapshot`)."""
    sums = await sum_by_offer(session, scope)
    times = await first_tokens(session, scope)
    latest = (await look(session, scope, LogFilter(), limit=LATEST)).requests
    return Overview(
        read_at=await read_now(session),
        balance=await read_balance(session, scope),
        today=sum((offer.today for offer in sums), Sums()),
        month=sum((offer.month for offer in sums), Sums()),
        offers=join_figures(sums, times),
        timed_requests=sum(time.requests for time in times),
        hours=await sum_by_hour(session, scope, HOURS),
        latest=latest,
        beginnings=None if len(latest) == LATEST else await read_beginnings(session, scope),
    )


def join_figures(sums: Sequence[OfferSums], times: Sequence[FirstTokens]) -> list[OfferFigures]:
    """One row for each model and region that is in either, sorted."""
    sums_of = {(one.model, one.region): one for one in sums}
    times_of = {(one.model, one.region): one for one in times}
    return [
        OfferFigures(
            model=model,
            region=region,
            today=sums_of[model, region].today if (model, region) in sums_of else Sums(),
            month=sums_of[model, region].month if (model, region) in sums_of else Sums(),
            first_tokens=times_of.get((model, region)),
        )
        for model, region in sorted({*sums_of, *times_of})
    ]
