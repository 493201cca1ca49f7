"""How a tenant is taxed, and what the operator decides about it."""

from datetime import date

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.tax import queries
from chappe_billing.tax.areas import state_of_number
from chappe_billing.tax.deciding import (
    OUTSIDE_SCOPE,
    REVERSE_CHARGE,
    BuyerFacts,
    Decision,
    NumberState,
    Reason,
    Ruling,
    SellerFacts,
    decide,
)
from chappe_billing.tax.models import TaxRuling, VatAnswer, VatCheck, VatRate
from chappe_billing.tax.treatment import TaxCategory, TaxTreatment
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import TenantId, new_id
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.organisations.countries import COUNTRIES
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.organisations.queries import read_tenant

MAX_RATE_BP = 5000
_WHY_UNDECIDED = {
    Reason.NO_SELLER_COUNTRY: "the seller's country is not known",
    Reason.NO_BUYER_COUNTRY: "the organisation's country is not known",
    Reason.NUMBER_PENDING: "its VAT number is still being checked",
    Reason.NUMBER_OF_SELLERS_STATE: "its VAT number is of the seller's country, and its address is not",
    Reason.TERRITORY: "its address is in a territory with tax rules of its own",
    Reason.NO_RATE: "no VAT rate is known for that country and day",
}


class TaxStanding(Struct, frozen=True):
    """Of a tenant on a day: what is known, and what follows. `answer` is what a register said of its present number,
    `check` when it is asked next."""

    tenant: Tenant
    number: NumberState
    answer: VatAnswer | None
    check: VatCheck | None
    decision: Decision


async def treatment_of(session: AsyncSession, tenant_id: TenantId, on: date) -> TaxTreatment:
    """How what the tenant buys that day is taxed. As the operator or the tenant.

    Raises `NotFound`, and `Conflict` with the code `tax_undecided` while that cannot be told: a number is being
    checked, a country is not known, or only the operator can decide (`rule`).
    """
    decision = (await standing_of(session, TenantScope(tenant_id), on)).decision
    if decision.treatment is None:
        raise Conflict(f"how this is taxed cannot be told: {_WHY_UNDECIDED[decision.reason]}", code="tax_undecided")
    return decision.treatment


async def standing_of(session: AsyncSession, scope: TenantScope, on: date) -> TaxStanding:
    """As the operator or the tenant. Raises `NotFound`."""
    tenant = await read_tenant(session, scope)
    found = await queries.read_seller(session, scope.tenant_id)
    if tenant is None or found is None:
        raise NotFound("no such organisation")
    entity, one_stop_shop = found
    rates = await queries.read_rates(session, on)
    ruling = await queries.read_ruling(session, scope, on)
    answer = await _answer(session, scope, tenant, on)
    number = _number_state(tenant, answer)
    buyer = BuyerFacts(tenant.country, tenant.postal_code, tenant.vat_number, number)
    seller = SellerFacts(entity.country, entity.postal_code, one_stop_shop=one_stop_shop)
    decision = decide(seller, buyer, on=on, rate_of=rates.get, ruling=_ruling(ruling))
    return TaxStanding(tenant, number, answer, await queries.read_check(session, scope), decision)


async def rule(
    session: AsyncSession,
    scope: TenantScope,
    *,
    category: TaxCategory | None,
    rate_bp: int,
    reason: str,
    starts_on: date | None = None,
) -> TaxRuling:
    """Decide how a tenant is taxed, from today on or later, whatever the rules say; None as category ends that. As the
    operator. Raises `Invalid`."""
    today = (await read_now(session)).date()
    if starts_on is not None and starts_on < today:
        raise Invalid("a ruling begins today or later: what is issued stays as it is", param="starts_on")
    if not 0 <= rate_bp <= MAX_RATE_BP or (category is TaxCategory.STANDARD) != (rate_bp > 0):
        raise Invalid("a rate is over 0 % and at most 50 % for the category S, and 0 for others", param="rate_bp")
    return await queries.insert_ruling(
        session,
        TaxRuling(
            tenant_id=scope.tenant_id,
            id=new_id(),
            starts_on=starts_on or today,
            category=category,
            rate_bp=rate_bp,
            reason=reason,
        ),
    )


async def record_answer(
    session: AsyncSession, scope: TenantScope, *, vat_number: str, outcome: NumberState, consultation_number: str | None
) -> VatAnswer:
    """What somebody of the operator's found out about a tenant's number. Raises `NotFound`, and `Conflict` when that is
    not its number (any more)."""
    tenant = await read_tenant(session, scope)
    if tenant is None:
        raise NotFound("no such organisation")
    if tenant.vat_number != vat_number:
        raise Conflict("the organisation has another VAT number", code="vat_number_changed", param="vat_number")
    return await queries.insert_answer(
        session,
        VatAnswer(
            tenant_id=scope.tenant_id,
            id=new_id(),
            vat_number=vat_number,
            outcome=outcome,
            source="operator",
            consultation_number=consultation_number,
        ),
    )


async def check_again(session: AsyncSession, scope: TenantScope) -> VatCheck:
    """Ask VIES about the tenant's number as soon as may be. As the operator. Raises `Conflict` when it has none that
    VIES knows of."""
    if await queries.make_due(session, scope):
        found = await queries.read_check(session, scope)
        if found is not None:
            return found
    raise Conflict("the organisation has no VAT number that could be checked", code="nothing_to_check")


async def schedule_rate(session: AsyncSession, *, country: str, starts_on: date, rate_bp: int, source: str) -> VatRate:
    """A country's standard rate from a day after today on; said twice, the later word counts. As the operator. Raises
    `Invalid`, and `Conflict` (`rate_in_use`) when a document was issued under that date."""
    if country not in COUNTRIES:
        raise Invalid("country is no code of ISO 3166-1, like FR", code="invalid_country", param="country")
    if starts_on <= (await read_now(session)).date():
        raise Invalid("a rate begins tomorrow or later: what was taxed stays so", param="starts_on")
    if not 0 < rate_bp <= MAX_RATE_BP:
        raise Invalid("a rate is over 0 % and at most 50 %", param="rate_bp")
    await _check_unused(session, country, starts_on)
    rate = VatRate(id=new_id(), country=country, starts_on=starts_on, rate_bp=rate_bp, source=source)
    return await queries.insert_rate(session, rate)


async def withdraw_rate(session: AsyncSession, *, country: str, starts_on: date) -> None:
    """Take back all that was said of a country's rate from that day on, before the day: the rate before it holds on. As
    the operator. Raises `NotFound`, and `Conflict`: `rate_in_force` when it has begun, `rate_in_use` when a document
    was issued under it."""
    rates = await queries.list_rates_of(session, country, starts_on) if country in COUNTRIES else ()
    if not rates:
        raise NotFound("no rate of that country begins that day")
    if starts_on <= (await read_now(session)).date():
        raise Conflict("it has begun: schedule another one", code="rate_in_force")
    await _check_unused(session, country, starts_on)
    await queries.insert_withdrawals(session, rates)


async def _check_unused(session: AsyncSession, country: str, starts_on: date) -> None:
    number = await queries.find_taxed(session, country, starts_on)
    if number is not None:
        raise Conflict(f"{number} is issued for that day or a later one", code="rate_in_use", param="starts_on")


async def _answer(session: AsyncSession, scope: TenantScope, tenant: Tenant, on: date) -> VatAnswer | None:
    if tenant.vat_number is None:
        return None
    return await queries.read_answer(session, scope, tenant.vat_number, on)


def _number_state(tenant: Tenant, answer: VatAnswer | None) -> NumberState:
    if tenant.vat_number is None or state_of_number(tenant.vat_number) is None:
        return NumberState.NONE
    return NumberState.PENDING if answer is None else NumberState(answer.outcome)


def _ruling(found: TaxRuling | None) -> Ruling | None:
    if found is None or found.category is None:
        return None
    treatments = {TaxCategory.REVERSE_CHARGE: REVERSE_CHARGE, TaxCategory.OUTSIDE_SCOPE: OUTSIDE_SCOPE}
    category = TaxCategory(found.category)
    return Ruling(found.starts_on, treatments.get(category, TaxTreatment(category, found.rate_bp)))
