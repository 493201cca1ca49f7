"""Standing orders: who runs low is topped up by their saved method, one payment at a time."""

from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budgets
from chappe_billing.payments import method_queries, queries
from chappe_billing.payments.amounts import check_bounds, nano_per_minor
from chappe_billing.payments.calling import order
from chappe_billing.payments.models import Method, Purpose
from chappe_billing.payments.origin import payment_origin
from chappe_billing.payments.patience import FIRST_WAIT
from chappe_billing.payments.port import Charge
from chappe_billing.payments.service import Bounds, collecting_payer, insert_top_up, quote
from chappe_kernel.errors import ChappeError, Conflict, Invalid, NotFound
from chappe_kernel.ids import PAYMENT, TenantId, encode_id
from chappe_store.queries import read_now
from chappe_store.session import Database, TenantScope

MAX_PER_MONTH = 100


class Wanted(Struct, frozen=True, kw_only=True):
    """Below `below_nano` of what is available, top up by `net_nano`, at most so often in a calendar month (UTC)."""

    is_on: bool
    below_nano: int
    net_nano: int
    most_per_month: int


async def set_auto_top_up(session: AsyncSession, scope: TenantScope, wanted: Wanted, *, bounds: Bounds) -> None:
    """As the tenant. Raises `Invalid`, and `Conflict` where there is nothing to charge (`no_payment_method`) or nobody
    who would (`payments_not_offered`): off it may be anywhere."""
    payer = await (collecting_payer if wanted.is_on else queries.read_payer)(session, scope)
    if payer is None:
        raise NotFound("no such tenant")
    check_bounds(wanted.net_nano, bounds.least_nano, bounds.most_nano)
    if wanted.net_nano % nano_per_minor(payer.currency):
        raise Invalid("an amount that is paid is in whole cents", code="invalid_amount", param="amount")
    if not 0 <= wanted.below_nano <= bounds.most_nano:
        raise Invalid("a balance from 0 up", code="amount_out_of_bounds", param="below")
    if not 1 <= wanted.most_per_month <= MAX_PER_MONTH:
        raise Invalid(f"a number from 1 to {MAX_PER_MONTH}", code="invalid_number", param="most_per_month")
    if wanted.is_on and not await queries.list_methods(session, scope):
        raise Conflict("save a card or an account first", code="no_payment_method")
    await queries.put_auto_top_up(
        session,
        scope,
        is_on=wanted.is_on,
        below_nano=wanted.below_nano,
        net_nano=wanted.net_nano,
        most_per_month=wanted.most_per_month,
    )


async def top_up_all(database: Database) -> int:
    """Start a payment for each tenant that runs low; how many that were. Any number of processes may do so."""
    async with database.operator() as session:
        due = await queries.list_running_low(session)
    return sum([await _top_up(database, TenantScope(TenantId(tenant_id))) for tenant_id in due])


async def _top_up(database: Database, scope: TenantScope) -> bool:
    try:
        async with database.operator(payment_origin()) as session:
            return await _start(session, scope)
    except (ChappeError, IntegrityError):
        # Another process began one, or how it is taxed cannot be told yet. Whichever it is, an hour is soon enough.
        async with database.operator() as session:
            now = await read_now(session)
            await queries.update_auto_top_up(session, scope.tenant_id, next_at=now + FIRST_WAIT)
        return False


async def _start(session: AsyncSession, scope: TenantScope) -> bool:
    """Under the lock on the budget: what was low may have been topped up meanwhile."""
    await budgets.lock_budgets(session, [scope.tenant_id])
    if scope.tenant_id not in await queries.list_running_low(session, scope.tenant_id):
        return False
    wanted = await queries.find_auto_top_up(session, scope)
    methods = await method_queries.list_chargeable(session, scope)
    now = await read_now(session)
    if wanted is None or not methods:
        await queries.update_auto_top_up(session, scope.tenant_id, next_at=now + FIRST_WAIT)
        return False
    if await queries.count_auto_top_ups(session, scope.tenant_id) >= wanted.most_per_month:
        await queries.update_auto_top_up(session, scope.tenant_id, next_at=_next_month(now))
        return False
    payer = await collecting_payer(session, scope)
    quoted = await quote(session, payer, wanted.net_nano, now.date())
    method = Method(methods[0].kind)
    payment_id = await insert_top_up(session, payer, quoted, Purpose.AUTO_TOP_UP, method)
    charge = Charge(
        payment=encode_id(PAYMENT, payment_id),
        gross_minor=quoted.charged.gross_minor,
        currency=payer.currency,
        method=method,
        method_id=methods[0].service_id,
        description="Credit for inference",
    )
    await order(session, payer, charge, payment_id=payment_id)
    return True


def _next_month(now: datetime) -> datetime:
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)
