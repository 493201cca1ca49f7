"""SQL of retention. As the operator."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import BindParameter, Date, DateTime, Result, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import TypeEngine


class Hindrance(Struct, frozen=True):
    """`statement` says whether the events from `:first` to before `:next` are needed yet, and `reason` what for."""

    reason: str
    statement: str


_HINDRANCES = (
    Hindrance(
        "some of its usage was posted in minutes that are kept",
        """
        SELECT EXISTS (SELECT FROM usage_event WHERE request_id >= first_request_id(:first)
                       AND request_id < first_request_id(:next)
                       AND posted_at >= (SELECT first_minute FROM usage_kept))
        """,
    ),
    Hindrance(
        "a discrepancy about one of its requests is open",
        """
        SELECT EXISTS (SELECT FROM usage_discrepancy WHERE resolved_at IS NULL
                       AND request_id >= first_request_id(:first) AND request_id < first_request_id(:next))
        """,
    ),
    Hindrance(
        "the rated-usage feed has not taken what was posted more than a day ago",
        """
        SELECT EXISTS (SELECT FROM rated_usage_waiting WHERE id < first_request_id(now() - interval '1 day'))
        """,
    ),
)

_SEALS = (
    """
    INSERT INTO usage_sealed_month (
        month, requests, prompt_tokens, cached_tokens, completion_tokens, amount_nano, written_off_nano
    )
    SELECT :month, count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(cached_tokens), 0),
           coalesce(sum(completion_tokens), 0), coalesce(sum(amount_nano), 0), coalesce(sum(written_off_nano), 0)
    FROM usage_event WHERE request_id >= first_request_id(:first) AND request_id < first_request_id(:next)
    """,
    """
    INSERT INTO usage_sealed_hour (
        tenant_id, month, hour, project_id, key_id, listing_id, region, requests, prompt_tokens, cached_tokens,
        completion_tokens, amount_nano, written_off_nano
    )
    SELECT tenant_id, :month, date_trunc('hour', posted_at, 'UTC'), project_id, key_id, listing_id, region, count(*),
           sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(amount_nano), sum(written_off_nano)
    FROM usage_event WHERE request_id >= first_request_id(:first) AND request_id < first_request_id(:next)
    GROUP BY 1, 3, 4, 5, 6, 7
    """,
    """
    INSERT INTO usage_sealed_posting (
        tenant_id, month, transaction_id, listing_id, region, amount_nano, written_off_nano
    )
    SELECT tenant_id, :month, transaction_id, listing_id, region, sum(amount_nano), sum(written_off_nano)
    FROM usage_event
    WHERE request_id >= first_request_id(:first) AND request_id < first_request_id(:next)
      AND transaction_id IS NOT NULL
    GROUP BY 1, 3, 4, 5
    """,
    """
    INSERT INTO usage_sealed_price_day (
        tenant_id, month, day, project_id, price_version_id, requests, prompt_tokens, cached_tokens, completion_tokens,
        seconds, images, amount_nano, written_off_nano
    )
    SELECT tenant_id, :month, CAST(posted_at AT TIME ZONE 'UTC' AS date), project_id, price_version_id, count(*),
           sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(seconds), sum(images),
           sum(amount_nano), sum(written_off_nano)
    FROM usage_event
    WHERE request_id >= first_request_id(:first) AND request_id < first_request_id(:next) AND repeats IS NULL
      AND (completion_tokens + seconds + images > 0 OR (prompt_tokens > 0 AND outcome <> 'failed'))
    GROUP BY 1, 3, 4, 5
    """,
    """
    INSERT INTO usage_sealed_grant (tenant_id, month, grant_id, granted_nano)
    SELECT tenant_id, :month, grant_id, sum(granted_nano)
    FROM usage_event WHERE request_id >= first_request_id(:first) AND request_id < first_request_id(:next)
    GROUP BY 1, 3 HAVING sum(granted_nano) > 0
    """,
)
_LONG = "600s"


class Month(Struct, frozen=True):
    """A calendar month (UTC) by its first day."""

    first: date

    @property
    def next(self) -> date:
        return (self.first.replace(day=28) + timedelta(days=4)).replace(day=1)


async def take_turn(session: AsyncSession) -> bool:
    """False when another process drops something at this moment."""
    statement = text("SELECT pg_try_advisory_xact_lock(hashtextextended('usage retention', 0))")
    return bool((await session.execute(statement)).scalar_one())


async def oldest_month(session: AsyncSession, keep_months: int) -> Month | None:
    """The oldest month that has a partition, if at least `keep_months` whole months are between it and this one."""
    statement = text(
        """
        SELECT to_date(right(c.relname, 7), 'YYYY_MM') AS month
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'usage_event'::regclass AND c.relname ~ '^usage_event_[0-9]{4}_[0-9]{2}$'
          AND to_date(right(c.relname, 7), 'YYYY_MM')
              < date_trunc('month', now(), 'UTC') - make_interval(months => CAST(:months AS integer))
        ORDER BY month LIMIT 1
        """
    )
    found = (await session.execute(statement, {"months": keep_months})).scalar_one_or_none()
    return None if found is None else Month(found)


async def find_hindrance(session: AsyncSession, month: Month) -> str | None:
    """Why the month's events are needed yet."""
    for hindrance in _HINDRANCES:
        if (await _execute(session, hindrance.statement, month)).scalar_one():
            return hindrance.reason
    return None


async def refuse_late(session: AsyncSession, month: Month) -> None:
    """From this transaction's end on, no event of this month or an older one comes in. Whoever posts at this moment
    reads what is kept: the lock waits for them, and they for it."""
    await session.execute(text("LOCK TABLE usage_kept IN ACCESS EXCLUSIVE MODE"))
    statement = "UPDATE usage_kept SET first_request_id = greatest(first_request_id, first_request_id(:next))"
    await _execute(session, statement, month)


async def seal_and_drop(session: AsyncSession, month: Month) -> None:
    """Keep what the month's events sum to, and drop them. After `refuse_late` was committed."""
    await session.execute(text("SELECT set_config('statement_timeout', :long, true)"), {"long": _LONG})
    for statement in _SEALS:
        await _execute(session, statement, month)
    await session.execute(text("SELECT drop_usage_partition(:month)"), {"month": month.first})


async def drop_minutes(session: AsyncSession, keep_days: int) -> int:
    """Forget sums by minute of before `keep_days` ago; how many those were."""
    gone = await session.execute(text(_DROP_MINUTES), {"days": keep_days})
    count = len(gone.all())
    await session.execute(text(_KEEP_MINUTES), {"days": keep_days})
    return count


_DROP_MINUTES = """
    DELETE FROM usage_minute
    WHERE minute < date_trunc('hour', now()) - make_interval(days => CAST(:days AS integer)) RETURNING 1
"""
_KEEP_MINUTES = """
    UPDATE usage_kept
    SET first_minute = greatest(first_minute, date_trunc('hour', now()) - make_interval(days => CAST(:days AS integer)))
"""


async def _execute(session: AsyncSession, statement: str, month: Month) -> Result[Any]:
    """With as much of the month as the statement names. The database's time zone is UTC."""
    values: dict[str, Any] = {
        "month": month.first,
        "first": datetime.combine(month.first, time(), UTC),
        "next": datetime.combine(month.next, time(), UTC),
    }
    types: dict[str, TypeEngine[Any]] = {
        "month": Date(),
        "first": DateTime(timezone=True),
        "next": DateTime(timezone=True),
    }
    named = {name: value for name, value in values.items() if f":{name}" in statement}
    parameters: list[BindParameter[Any]] = [bindparam(name, type_=types[name]) for name in named]
    return await session.execute(text(statement).bindparams(*parameters), named)
