"""SQL of tax: rates, choices, rulings, VAT numbers and what registers said of them."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.tax.models import EntityTax, TaxRuling, VatAnswer, VatCheck, VatRate, VatRateWithdrawal
from chappe_store.session import TenantScope
from chappe_tenants.legal_entities.models import LegalEntity
from chappe_tenants.organisations.models import Tenant


class Claim(Struct, frozen=True):
    """One number to ask about. `requester` is its seller's own number."""

    tenant_id: UUID
    vat_number: str
    attempts: int
    requester: str | None


async def read_rates(session: AsyncSession, on: date) -> dict[str, int]:
    """The standard rate of each country that day, in basis points."""
    query = (
        select(VatRate.country, VatRate.rate_bp)
        .where(VatRate.starts_on <= on, _stands())
        .ext(distinct_on(VatRate.country))
        .order_by(VatRate.country, VatRate.starts_on.desc(), VatRate.id.desc())
    )
    return {row.country: row.rate_bp for row in await session.execute(query)}


async def list_rates(session: AsyncSession) -> Sequence[VatRate]:
    """All that stand, by country and then from the newest."""
    query = select(VatRate).where(_stands()).order_by(VatRate.country, VatRate.starts_on.desc(), VatRate.id.desc())
    return (await session.scalars(query)).all()


async def list_rates_of(session: AsyncSession, country: str, starts_on: date) -> Sequence[VatRate]:
    """What was said of one day and stands; the last one counts."""
    query = select(VatRate).where(VatRate.country == country, VatRate.starts_on == starts_on, _stands())
    return (await session.scalars(query.order_by(VatRate.id))).all()


async def insert_withdrawals(session: AsyncSession, rates: Sequence[VatRate]) -> None:
    """The database refuses those that have begun."""
    session.add_all([VatRateWithdrawal(rate_id=rate.id) for rate in rates])
    await session.flush()


_TAXED = text(
    """
    SELECT i.number FROM invoice i
    WHERE i.kind <> 'credit_note' AND coalesce(i.period_to, i.issued_on) >= :starts_on
      AND :country IN (i.content -> 'seller' ->> 'country', i.content -> 'buyer' ->> 'country')
    ORDER BY i.id LIMIT 1
    """
)


async def find_taxed(session: AsyncSession, country: str, starts_on: date) -> str | None:
    """The number of a document from that country or to it whose supply is of that day or later, if there is one."""
    found: str | None = await session.scalar(_TAXED, {"country": country, "starts_on": starts_on})
    return found


def _stands() -> ColumnElement[bool]:
    return ~select(VatRateWithdrawal.rate_id).where(VatRateWithdrawal.rate_id == VatRate.id).exists()


async def insert_rate(session: AsyncSession, rate: VatRate) -> VatRate:
    session.add(rate)
    await session.flush()
    await session.refresh(rate)
    return rate


async def read_seller(session: AsyncSession, tenant_id: UUID) -> tuple[LegalEntity, bool] | None:
    """Who sells to the tenant, and whether it uses the one-stop shop."""
    query = (
        select(LegalEntity, func.coalesce(EntityTax.one_stop_shop, False))
        .join(Tenant, Tenant.legal_entity_id == LegalEntity.id)
        .outerjoin(EntityTax, EntityTax.legal_entity_id == LegalEntity.id)
        .where(Tenant.id == tenant_id)
    )
    found = (await session.execute(query)).one_or_none()
    return None if found is None else (found[0], found[1])


async def read_one_stop_shop(session: AsyncSession, entity_id: UUID) -> bool:
    query = select(EntityTax.one_stop_shop).where(EntityTax.legal_entity_id == entity_id)
    return bool(await session.scalar(query))


async def put_one_stop_shop(session: AsyncSession, entity_id: UUID, *, uses: bool) -> None:
    statement = insert(EntityTax).values(legal_entity_id=entity_id, one_stop_shop=uses)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["legal_entity_id"], set_={"one_stop_shop": statement.excluded.one_stop_shop}
        )
    )


async def read_ruling(session: AsyncSession, scope: TenantScope, on: date) -> TaxRuling | None:
    """The newest of those that have begun."""
    query = (
        select(TaxRuling)
        .where(TaxRuling.tenant_id == scope.tenant_id, TaxRuling.starts_on <= on)
        .order_by(TaxRuling.starts_on.desc(), TaxRuling.id.desc())
        .limit(1)
    )
    found: TaxRuling | None = await session.scalar(query)
    return found


async def list_rulings(session: AsyncSession, scope: TenantScope, *, limit: int) -> Sequence[TaxRuling]:
    """By their first day, the newest first, those included that have not begun."""
    query = (
        select(TaxRuling)
        .where(TaxRuling.tenant_id == scope.tenant_id)
        .order_by(TaxRuling.starts_on.desc(), TaxRuling.id.desc())
        .limit(limit)
    )
    return (await session.scalars(query)).all()


async def insert_ruling(session: AsyncSession, ruling: TaxRuling) -> TaxRuling:
    session.add(ruling)
    await session.flush()
    await session.refresh(ruling)
    return ruling


async def read_answer(session: AsyncSession, scope: TenantScope, vat_number: str, on: date) -> VatAnswer | None:
    """The last one up to that day's end; if there is none, the first one afterwards."""
    of_number = select(VatAnswer).where(VatAnswer.tenant_id == scope.tenant_id, VatAnswer.vat_number == vat_number)
    day_after = on + timedelta(days=1)
    before = of_number.where(VatAnswer.checked_at < day_after).order_by(VatAnswer.id.desc()).limit(1)
    found: VatAnswer | None = await session.scalar(before)
    if found is None:
        found = await session.scalar(of_number.order_by(VatAnswer.id).limit(1))
    return found


async def list_answers(session: AsyncSession, scope: TenantScope, *, limit: int) -> Sequence[VatAnswer]:
    """Newest first."""
    query = select(VatAnswer).where(VatAnswer.tenant_id == scope.tenant_id).order_by(VatAnswer.id.desc()).limit(limit)
    return (await session.scalars(query)).all()


async def insert_answer(session: AsyncSession, answer: VatAnswer) -> VatAnswer:
    session.add(answer)
    await session.flush()
    await session.refresh(answer)
    return answer


async def read_check(session: AsyncSession, scope: TenantScope) -> VatCheck | None:
    found: VatCheck | None = await session.scalar(
        select(VatCheck).where(VatCheck.tenant_id == scope.tenant_id).execution_options(populate_existing=True)
    )
    return found


async def list_checks(session: AsyncSession, *, limit: int) -> Sequence[Any]:
    """Across tenants: numbers without an answer, and those whose last answer is that they are not valid; the longest
    in vain first. Rows of (VatCheck, Tenant, VatAnswer or None)."""
    newest = (
        select(VatAnswer.id)
        .where(VatAnswer.tenant_id == VatCheck.tenant_id, VatAnswer.vat_number == VatCheck.vat_number)
        .order_by(VatAnswer.id.desc())
        .limit(1)
        .correlate(VatCheck)
        .scalar_subquery()
    )
    query = (
        select(VatCheck, Tenant, VatAnswer)
        .join(Tenant, (Tenant.id == VatCheck.tenant_id) & (Tenant.vat_number == VatCheck.vat_number))
        .outerjoin(VatAnswer, (VatAnswer.tenant_id == VatCheck.tenant_id) & (VatAnswer.id == newest))
        .where(or_(VatAnswer.id.is_(None), VatAnswer.outcome == "invalid", VatCheck.attempts > 0))
        .order_by(VatCheck.attempts.desc(), VatCheck.tenant_id)
        .limit(limit)
    )
    return (await session.execute(query)).all()


_NOTE_NUMBERS = text(
    """
    INSERT INTO vat_check (tenant_id, vat_number)
    SELECT t.id, t.vat_number FROM tenant t
    WHERE left(t.vat_number, 2) = ANY(:prefixes) AND t.state <> 'closed'
        AND NOT EXISTS (SELECT FROM vat_check c WHERE c.tenant_id = t.id AND c.vat_number = t.vat_number)
    ON CONFLICT (tenant_id) DO UPDATE
        SET vat_number = EXCLUDED.vat_number, due_at = now(), attempts = 0, last_error = NULL, last_tried_at = NULL
    RETURNING 1
    """
)


async def note_numbers(session: AsyncSession, prefixes: Sequence[str]) -> int:
    """Across tenants: whoever has a number of these that nobody asked about yet is due now. How many they are."""
    return len((await session.execute(_NOTE_NUMBERS, {"prefixes": list(prefixes)})).all())


async def claim_due(session: AsyncSession, *, lease: timedelta, limit: int) -> list[Claim]:
    """Across tenants: what is due, longest due first. Each is this caller's alone until `lease` is over."""
    due = (
        select(VatCheck.tenant_id)
        .where(VatCheck.due_at <= func.now())
        .order_by(VatCheck.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    claimed = await session.execute(
        update(VatCheck)
        .where(VatCheck.tenant_id.in_(due), Tenant.id == VatCheck.tenant_id, LegalEntity.id == Tenant.legal_entity_id)
        .values(due_at=func.now() + lease)
        .returning(
            VatCheck.tenant_id, VatCheck.vat_number, VatCheck.attempts, LegalEntity.vat_number.label("requester")
        )
        .execution_options(synchronize_session=False)
    )
    return [Claim(**row) for row in claimed.mappings()]


async def end_attempt(
    session: AsyncSession, tenant_id: UUID, vat_number: str, *, wait: timedelta, values: Mapping[str, Any]
) -> bool:
    """It is due again after `wait`. False, and nothing done, when the tenant has another number by now."""
    statement = (
        update(VatCheck)
        .where(VatCheck.tenant_id == tenant_id, VatCheck.vat_number == vat_number)
        .values(due_at=func.now() + wait, last_tried_at=func.now(), **values)
        .returning(VatCheck.tenant_id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None


async def make_due(session: AsyncSession, scope: TenantScope) -> bool:
    """False when there is nothing to check."""
    statement = (
        update(VatCheck)
        .where(VatCheck.tenant_id == scope.tenant_id)
        .values(due_at=func.now(), attempts=0)
        .returning(VatCheck.tenant_id)
        .execution_options(synchronize_session=False)
    )
    return await session.scalar(statement) is not None
