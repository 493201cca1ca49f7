"""Agreeing to terms, and ending them."""

from collections.abc import Sequence
from datetime import date

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.contract_terms import queries
from chappe_billing.contract_terms.models import ContractTerm
from chappe_billing.contract_terms.reckoning import TermKind, Tier
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import ContractTermId, new_id
from chappe_store.queries import read_now
from chappe_store.session import TenantScope

MAX_TIERS = 20
MAX_AMOUNT_NANO = 10**18


async def agree_term(
    session: AsyncSession,
    scope: TenantScope,
    *,
    kind: TermKind,
    first_month: date,
    last_month: date | None = None,
    amount_nano: int | None = None,
    tiers: Sequence[Tier] = (),
) -> ContractTerm:
    """For whole months, this one or later ones. As the operator. Raises `Invalid`."""
    this_month = await _this_month(session)
    if first_month < this_month:
        raise Invalid("a term begins this month or later: months that are over stay as they were", param="first_month")
    if last_month is not None and last_month < first_month:
        raise Invalid("a term's last month is not before its first", param="last_month")
    if kind is TermKind.COMMITMENT and last_month is None:
        raise Invalid("a commitment has a last month", param="last_month")
    if (kind is TermKind.VOLUME_DISCOUNT) == (amount_nano is not None):
        raise Invalid("minimums and commitments have an amount, and nothing else has", param="amount")
    if amount_nano is not None and not 1 <= amount_nano <= MAX_AMOUNT_NANO:
        raise Invalid("an amount is more than nothing and at most a billion", param="amount")
    _check_tiers(kind, tiers)
    return await queries.insert_term(
        session,
        ContractTerm(
            id=new_id(),
            tenant_id=scope.tenant_id,
            kind=kind,
            first_month=first_month,
            last_month=last_month,
            amount_nano=amount_nano,
            tier_from_nano=[tier.from_nano for tier in tiers],
            tier_basis_points=[tier.basis_points for tier in tiers],
        ),
    )


async def end_term(session: AsyncSession, scope: TenantScope, term_id: ContractTermId) -> ContractTerm:
    """This month is its last one, or if it has not begun, its first. A commitment is then reckoned at this month's end.
    A repeat changes nothing. As the operator. Raises `NotFound`, `Conflict` for one that is over."""
    term = await queries.lock_term(session, scope, term_id)
    if term is None:
        raise NotFound("no such term")
    last = max(await _this_month(session), term.first_month)
    if term.last_month is not None and term.last_month < last:
        raise Conflict("this term is over", code="term_over")
    return await queries.set_last_month(session, term, last)


def _check_tiers(kind: TermKind, tiers: Sequence[Tier]) -> None:
    if (kind is TermKind.VOLUME_DISCOUNT) == (not tiers):
        raise Invalid("a volume discount has tiers, and nothing else has", param="tiers")
    if len(tiers) > MAX_TIERS:
        raise Invalid(f"there are at most {MAX_TIERS} tiers", param="tiers")
    starts = [tier.from_nano for tier in tiers]
    if starts != sorted(set(starts)):
        raise Invalid("each tier begins after the one before it", param="tiers")


async def _this_month(session: AsyncSession) -> date:
    return (await read_now(session)).date().replace(day=1)
