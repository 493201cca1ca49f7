"""SQL of what the next invoice comes to, from sums that triggers keep instead of from each event. As the operator."""

from datetime import date, datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import BindParameter, Date, DateTime, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.invoicing.charges import Used


class Since(Struct, frozen=True):
    """A tenant's last cut-off, and the first day (UTC) that begins after it or with it; None: nothing was invoiced yet.
    `is_archived`: events of that time are dropped already, and an invoice has no more of them than their sum."""

    cut_off_at: datetime | None
    day: date | None
    is_archived: bool


class Summed(Struct, frozen=True):
    """Usage, and the first day on which anything of it was charged."""

    used: tuple[Used, ...]
    first_day: date | None


# A month's partition has events that ended in the next.
_SINCE = text(
    """
    SELECT s.cut_off_at, s.day, EXISTS (
        SELECT FROM usage_sealed_posting p
        WHERE p.tenant_id = :tenant_id AND (s.day IS NULL OR p.month >= date_trunc('month', s.day) - interval '1 month')
    )
    FROM (
        SELECT c.cut_off_at, (date_trunc('day', c.cut_off_at - interval '1 microsecond', 'UTC')
                              AT TIME ZONE 'UTC')::date + 1 AS day
        FROM (SELECT max(cut_off_at) AS cut_off_at FROM invoice_cut WHERE tenant_id = :tenant_id) c
    ) s
    """
)


async def read_since(session: AsyncSession, tenant_id: UUID) -> Since:
    row = (await session.execute(_SINCE, {"tenant_id": tenant_id})).one()
    return Since(*row)


# All that is invoiced was posted before the last cut-off: of the rest of its day each event is counted, and of later
# days the sums. A transaction that took nothing from the tenant's funds is on no invoice: all that it was about was
# written off. OFFSET 0: a plan for any account would read all that this one ever had instead of a few transactions. The
# names of columns are those of `Used`, in its order.
_SUMMED = text(
    """
    SELECT u.project_id, p.name, l.name, v.region, u.requests, u.prompt - u.cached, u.cached, u.output, u.seconds,
           u.images, u.written_off, v.input_nano_per_token, v.cached_input_nano_per_token, v.output_nano_per_token,
           v.request_nano, v.second_nano, v.image_nano, u.first_day
    FROM (
        SELECT project_id, price_version_id, sum(requests)::bigint AS requests, sum(prompt_tokens)::bigint AS prompt,
               sum(cached_tokens)::bigint AS cached, sum(completion_tokens)::bigint AS output,
               sum(seconds)::bigint AS seconds, sum(images)::bigint AS images,
               sum(written_off_nano)::bigint AS written_off, min(day) AS first_day
        FROM (
            SELECT project_id, price_version_id, requests, prompt_tokens, cached_tokens, completion_tokens, seconds,
                   images, written_off_nano, CASE WHEN amount_nano > written_off_nano THEN day END AS day
            FROM usage_price_day
            WHERE tenant_id = :tenant_id AND day >= coalesce(:day, date '-infinity')
            UNION ALL
            SELECT e.project_id, e.price_version_id, count(*), sum(e.prompt_tokens), sum(e.cached_tokens),
                   sum(e.completion_tokens), sum(e.seconds), sum(e.images), sum(e.written_off_nano),
                   CASE WHEN sum(e.amount_nano) > sum(e.written_off_nano) THEN CAST(:day AS date) - 1 END
            FROM usage_event e
            WHERE e.tenant_id = :tenant_id AND e.posted_at >= :cut_off_at
              AND e.posted_at < CAST(:day AS date)::timestamp AT TIME ZONE 'UTC' AND e.repeats IS NULL
              AND (e.completion_tokens + e.seconds + e.images > 0 OR (e.prompt_tokens > 0 AND e.outcome <> 'failed'))
            GROUP BY 1, 2
            UNION ALL
            SELECT e.project_id, e.price_version_id, -1, -e.prompt_tokens, -e.cached_tokens, -e.completion_tokens,
                   -e.seconds, -e.images, -e.written_off_nano, NULL
            FROM usage_event e
            WHERE e.tenant_id = :tenant_id AND e.written_off_nano > 0
              AND e.posted_at >= coalesce(:cut_off_at, timestamptz '-infinity')
              AND NOT EXISTS (
                  SELECT FROM ledger_entry f WHERE f.transaction_id = e.transaction_id AND f.account_id = :funds
                  OFFSET 0
              )
        ) s GROUP BY 1, 2
    ) u
    JOIN price_version v ON v.id = u.price_version_id
    JOIN listing l ON l.id = v.listing_id
    LEFT JOIN project p ON p.tenant_id = :tenant_id AND p.id = u.project_id
    """
)


async def read_summed(session: AsyncSession, tenant_id: UUID, funds_account: UUID, since: Since) -> Summed:
    """What chargeable usage after the last cut-off was made of, as an invoice of all of it would have it."""
    values = {"tenant_id": tenant_id, "funds": funds_account, "cut_off_at": since.cut_off_at, "day": since.day}
    types: list[BindParameter[object]] = [
        bindparam("tenant_id", type_=Uuid()),
        bindparam("funds", type_=Uuid()),
        bindparam("cut_off_at", type_=DateTime(timezone=True)),
        bindparam("day", type_=Date()),
    ]
    rows = (await session.execute(_SUMMED.bindparams(*types), values)).all()
    first_day = min((row[-1] for row in rows if row[-1] is not None), default=None)
    return Summed(tuple(Used(*row[:-1]) for row in rows), first_day)
