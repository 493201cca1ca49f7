"""SQL of what the next invoice comes to, from sums that triggers keep instead of from each event. As the operator."""

from datetime import date
from uuid import UUID

from msgspec import Struct
from sqlalchemy import BindParameter, Date, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.invoicing.charges import Used


class Since(Struct, frozen=True):
    """From which day (UTC) on nothing of a tenant's usage is invoiced, None: nothing ever was. Of what was posted
    before that day each transaction has to be looked at. `is_archived`: events of that time are dropped already, and
    an invoice has no more of them than their sum."""

    day: date | None
    is_archived: bool


class Summed(Struct, frozen=True):
    """Usage of whole days, and the first of them on which anything was charged."""

    used: tuple[Used, ...]
    first_day: date | None


# A cut-off is later than all usage that is invoiced with it. A month's partition has events that ended in the next.
_SINCE = text(
    """
    SELECT s.day, EXISTS (
        SELECT FROM usage_sealed_posting p
        WHERE p.tenant_id = :tenant_id AND (s.day IS NULL OR p.month >= date_trunc('month', s.day) - interval '1 month')
    )
    FROM (
        SELECT (date_trunc('day', max(cut_off_at) - interval '1 microsecond', 'UTC') AT TIME ZONE 'UTC')::date + 1
        FROM invoice_cut WHERE tenant_id = :tenant_id
    ) s (day)
    """
)


async def read_since(session: AsyncSession, tenant_id: UUID) -> Since:
    row = (await session.execute(_SINCE, {"tenant_id": tenant_id})).one()
    return Since(*row)


# The names of columns are those of `Used`, in its order. A transaction that took nothing from the tenant's funds is on
# no invoice: all that it was about was written off.
_SUMMED = text(
    """
    SELECT u.project_id, p.name, l.name, v.region, u.requests, u.prompt - u.cached, u.cached, u.output, u.seconds,
           u.images, u.written_off, v.input_nano_per_token, v.cached_input_nano_per_token, v.output_nano_per_token,
           v.request_nano, v.second_nano, v.image_nano, u.first_day
    FROM (
        SELECT project_id, price_version_id, sum(requests)::bigint AS requests, sum(prompt_tokens)::bigint AS prompt,
               sum(cached_tokens)::bigint AS cached, sum(completion_tokens)::bigint AS output,
               sum(seconds)::bigint AS seconds, sum(images)::bigint AS images,
               sum(written_off_nano)::bigint AS written_off,
               min(day) FILTER (WHERE amount_nano > written_off_nano) AS first_day
        FROM (
            SELECT project_id, price_version_id, requests, prompt_tokens, cached_tokens, completion_tokens, seconds,
                   images, amount_nano, written_off_nano, day
            FROM usage_price_day
            WHERE tenant_id = :tenant_id AND day >= coalesce(:day, date '-infinity')
            UNION ALL
            SELECT e.project_id, e.price_version_id, -1, -e.prompt_tokens, -e.cached_tokens, -e.completion_tokens,
                   -e.seconds, -e.images, -e.amount_nano, -e.written_off_nano, NULL
            FROM usage_event e
            WHERE e.tenant_id = :tenant_id AND e.written_off_nano > 0
              AND e.posted_at >= coalesce(:day, date '-infinity')::timestamp AT TIME ZONE 'UTC'
              AND NOT EXISTS (
                  SELECT FROM ledger_entry f WHERE f.transaction_id = e.transaction_id AND f.account_id = :funds
              )
        ) s GROUP BY 1, 2
    ) u
    JOIN price_version v ON v.id = u.price_version_id
    JOIN listing l ON l.id = v.listing_id
    LEFT JOIN project p ON p.tenant_id = :tenant_id AND p.id = u.project_id
    """
)


async def read_summed(session: AsyncSession, tenant_id: UUID, funds_account: UUID, day: date | None) -> Summed:
    """What chargeable usage of this day (UTC) and later was made of, as an invoice of all of it would have it."""
    values = {"tenant_id": tenant_id, "funds": funds_account, "day": day}
    types: list[BindParameter[object]] = [
        bindparam("tenant_id", type_=Uuid()),
        bindparam("funds", type_=Uuid()),
        bindparam("day", type_=Date()),
    ]
    rows = (await session.execute(_SUMMED.bindparams(*types), values)).all()
    first_day = min((row[-1] for row in rows if row[-1] is not None), default=None)
    return Summed(tuple(Used(*row[:-1]) for row in rows), first_day)
