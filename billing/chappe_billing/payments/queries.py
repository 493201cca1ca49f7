"""SQL of payments: customers, methods, payments, refunds, disputes, and what the service told."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets.models import Budget
from chappe_billing.payments.models import (
    UNDER_WAY,
    AutoTopUp,
    CallKind,
    DisputeState,
    Payment,
    PaymentCall,
    PaymentCustomer,
    PaymentDispute,
    PaymentEvent,
    PaymentEventLook,
    PaymentMethod,
    PaymentQuarantine,
    PaymentRefund,
    PaymentState,
    Purpose,
    RefundState,
)
from chappe_billing.payments.port import DisputeSeen, Event, MethodSeen
from chappe_kernel.ids import LegalEntityId, TenantId, new_id
from chappe_store.session import TenantScope
from chappe_tenants.legal_entities.models import LegalEntity, Payments
from chappe_tenants.organisations.lifecycle import TenantState
from chappe_tenants.organisations.models import Tenant

_LIST_LIMIT = 100


class Payer(Struct, frozen=True):
    """A tenant, how its legal entity collects, and who it is at the service, if it is anybody there yet."""

    tenant_id: TenantId
    legal_entity_id: LegalEntityId
    name: str
    country: str | None
    currency: str
    payments: Payments
    customer: str | None


async def read_payer(session: AsyncSession, scope: TenantScope) -> Payer | None:
    statement = (
        select(
            Tenant.id,
            Tenant.legal_entity_id,
            func.coalesce(Tenant.legal_name, Tenant.name),
            Tenant.country,
            LegalEntity.currency,
            LegalEntity.payments,
            PaymentCustomer.service_id,
        )
        .join(LegalEntity, LegalEntity.id == Tenant.legal_entity_id)
        .outerjoin(PaymentCustomer, PaymentCustomer.tenant_id == Tenant.id)
        .where(Tenant.id == scope.tenant_id)
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        return None
    tenant_id, entity_id, name, country, currency, payments, customer = row
    return Payer(TenantId(tenant_id), LegalEntityId(entity_id), name, country, currency, Payments(payments), customer)


async def is_collected(session: AsyncSession) -> bool:
    """Whether any legal entity collects by the service."""
    statement = select(LegalEntity.id).where(LegalEntity.payments == Payments.STRIPE).limit(1)
    return await session.scalar(statement) is not None


async def insert_customer(session: AsyncSession, tenant_id: UUID, legal_entity_id: UUID, service_id: str) -> None:
    """As the operator. The first one stays: there is one for each tenant."""
    values = {"tenant_id": tenant_id, "legal_entity_id": legal_entity_id, "service_id": service_id}
    await session.execute(upsert(PaymentCustomer).values(values).on_conflict_do_nothing(index_elements=["tenant_id"]))


async def find_customer(session: AsyncSession, service_id: str) -> PaymentCustomer | None:
    return await session.scalar(select(PaymentCustomer).where(PaymentCustomer.service_id == service_id))


async def customer_of(session: AsyncSession, tenant_id: UUID) -> str | None:
    return await session.scalar(select(PaymentCustomer.service_id).where(PaymentCustomer.tenant_id == tenant_id))


async def lock_customer(session: AsyncSession, tenant_id: UUID) -> None:
    """Whoever changes a tenant's methods takes turns until the transaction ends."""
    key = f"payment methods {tenant_id}"
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


async def list_methods(session: AsyncSession, scope: TenantScope) -> list[PaymentMethod]:
    """The default first. Removed ones are not among them."""
    statement = (
        select(PaymentMethod)
        .where(PaymentMethod.tenant_id == scope.tenant_id, PaymentMethod.removed_at.is_(None))
        .order_by(PaymentMethod.is_default.desc(), PaymentMethod.added_at, PaymentMethod.service_id)
        .limit(_LIST_LIMIT)
        .execution_options(populate_existing=True)
    )
    return list(await session.scalars(statement))


async def put_methods(session: AsyncSession, tenant_id: UUID, methods: Sequence[MethodSeen]) -> None:
    """As the operator. Make the tenant's list say these; what was removed here stays removed."""
    kept = [method.method_id for method in methods]
    gone = update(PaymentMethod).where(
        PaymentMethod.tenant_id == tenant_id,
        PaymentMethod.removed_at.is_(None),
        PaymentMethod.service_id.not_in(kept),
    )
    await session.execute(gone.values(removed_at=func.now(), is_default=False))
    for method in methods:
        values = {
            "tenant_id": tenant_id,
            "service_id": method.method_id,
            "kind": method.kind,
            "label": method.label,
            "expires": method.expires,
        }
        await session.execute(
            upsert(PaymentMethod)
            .values(values)
            .on_conflict_do_update(
                index_elements=["tenant_id", "service_id"], set_={"label": method.label, "expires": method.expires}
            )
        )


async def set_default_method(session: AsyncSession, scope: TenantScope, service_id: str | None) -> bool:
    """None: no method is the default any more. Whether there is such a method."""
    mine = PaymentMethod.tenant_id == scope.tenant_id
    await session.execute(update(PaymentMethod).where(mine, PaymentMethod.is_default).values(is_default=False))
    if service_id is None:
        return True
    chosen = update(PaymentMethod).where(
        mine, PaymentMethod.service_id == service_id, PaymentMethod.removed_at.is_(None)
    )
    found = await session.scalar(chosen.values(is_default=True).returning(PaymentMethod.service_id))
    return found is not None


async def remove_method(session: AsyncSession, scope: TenantScope, service_id: str) -> bool:
    statement = (
        update(PaymentMethod)
        .where(
            PaymentMethod.tenant_id == scope.tenant_id,
            PaymentMethod.service_id == service_id,
            PaymentMethod.removed_at.is_(None),
        )
        .values(removed_at=func.now(), is_default=False)
        .returning(PaymentMethod.service_id)
    )
    return await session.scalar(statement) is not None


async def insert_payment(session: AsyncSession, values: dict[str, Any]) -> None:
    await session.execute(insert(Payment).values(values))


async def find_payment(session: AsyncSession, scope: TenantScope, payment_id: UUID) -> Payment | None:
    statement = select(Payment).where(Payment.tenant_id == scope.tenant_id, Payment.id == payment_id)
    return await session.scalar(statement)


async def find_any_payment(session: AsyncSession, payment_id: UUID) -> Payment | None:
    """As the operator, whoever's it is."""
    return await session.scalar(select(Payment).where(Payment.id == payment_id))


async def find_payment_by_intent(session: AsyncSession, intent_id: str) -> Payment | None:
    """As the operator."""
    return await session.scalar(select(Payment).where(Payment.intent_id == intent_id))


async def lock_payment(session: AsyncSession, payment_id: UUID) -> Payment:
    """Until the transaction ends; after the tenant's budget."""
    statement = select(Payment).where(Payment.id == payment_id).with_for_update()
    return (await session.scalars(statement.execution_options(populate_existing=True))).one()


async def update_payment(session: AsyncSession, payment_id: UUID, **values: Any) -> None:
    await session.execute(
        update(Payment)
        .where(Payment.id == payment_id)
        .values(changed_at=func.now(), **values)
        .execution_options(synchronize_session=False)
    )


async def count_open(session: AsyncSession, scope: TenantScope) -> int:
    """Payments that somebody began and has neither paid nor abandoned."""
    statement = select(func.count()).where(
        Payment.tenant_id == scope.tenant_id, Payment.state.in_((PaymentState.ASKED, PaymentState.OPEN))
    )
    return int((await session.execute(statement)).scalar_one())


async def has_open_dispute(session: AsyncSession, payment_id: UUID) -> bool:
    statement = select(PaymentDispute.service_id).where(
        PaymentDispute.payment_id == payment_id, PaymentDispute.state == DisputeState.OPEN
    )
    return await session.scalar(statement.limit(1)) is not None


async def list_payments(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None = None
) -> list[Payment]:
    """Newest first."""
    statement = select(Payment).where(Payment.tenant_id == scope.tenant_id).order_by(Payment.id.desc()).limit(limit)
    return list(await session.scalars(statement if before is None else statement.where(Payment.id < before)))


async def list_all_payments(
    session: AsyncSession, *, limit: int, before: UUID | None = None, states: Collection[str] = ()
) -> list[Payment]:
    """As the operator, newest first."""
    statement = select(Payment).order_by(Payment.id.desc()).limit(limit)
    if states:
        statement = statement.where(Payment.state.in_(states))
    return list(await session.scalars(statement if before is None else statement.where(Payment.id < before)))


class Unsettled(Struct, frozen=True):
    """A payment under way, and by what the service knows it."""

    payment_id: UUID
    session_id: str | None
    intent_id: str | None


async def claim_unsettled(session: AsyncSession, *, quiet_for: timedelta, limit: int) -> list[Unsettled]:
    """As the operator: payments under way that nobody has looked at for so long, which counts as a look.

    What was abandoned is looked at too, for a week: money may still come.
    """
    looked_at = func.coalesce(Payment.looked_at, Payment.created_at)
    in_time = or_(
        Payment.state.in_(UNDER_WAY),
        (Payment.state == PaymentState.EXPIRED) & (Payment.created_at > func.now() - timedelta(days=7)),
    )
    known = or_(Payment.session_id.is_not(None), Payment.intent_id.is_not(None))
    due = (
        select(Payment.id)
        .where(in_time, known, looked_at < func.now() - quiet_for)
        .order_by(looked_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(Payment)
        .where(Payment.id.in_(due))
        .values(looked_at=func.now())
        .returning(Payment.id, Payment.session_id, Payment.intent_id)
        .execution_options(synchronize_session=False)
    )
    return [Unsettled(*row) for row in await session.execute(statement)]


async def url_of(session: AsyncSession, scope: TenantScope, payment_id: UUID) -> str | None:
    """Of the hosted page on which it is paid."""
    statement = select(PaymentCall.url).where(
        PaymentCall.tenant_id == scope.tenant_id,
        PaymentCall.payment_id == payment_id,
        PaymentCall.kind.in_((CallKind.CHECKOUT, CallKind.INVOICE)),
    )
    return await session.scalar(statement)


async def find_call(session: AsyncSession, scope: TenantScope, call_id: UUID) -> PaymentCall | None:
    statement = select(PaymentCall).where(PaymentCall.tenant_id == scope.tenant_id, PaymentCall.id == call_id)
    return await session.scalar(statement)


async def insert_refund(session: AsyncSession, values: dict[str, Any]) -> None:
    """As the operator."""
    await session.execute(insert(PaymentRefund).values(values))


async def lock_refund(session: AsyncSession, refund_id: UUID) -> PaymentRefund | None:
    """Until the transaction ends; after the tenant's budget."""
    statement = select(PaymentRefund).where(PaymentRefund.id == refund_id).with_for_update()
    return await session.scalar(statement.execution_options(populate_existing=True))


async def find_refund(session: AsyncSession, refund_id: UUID) -> PaymentRefund | None:
    return await session.scalar(select(PaymentRefund).where(PaymentRefund.id == refund_id))


async def update_refund(session: AsyncSession, refund_id: UUID, **values: Any) -> None:
    await session.execute(
        update(PaymentRefund)
        .where(PaymentRefund.id == refund_id)
        .values(changed_at=func.now(), **values)
        .execution_options(synchronize_session=False)
    )


async def list_refunds(
    session: AsyncSession, *, payment_id: UUID | None = None, limit: int = _LIST_LIMIT
) -> list[PaymentRefund]:
    """Newest first; all of one payment, or the newest of all that this role sees."""
    statement = select(PaymentRefund).order_by(PaymentRefund.id.desc()).limit(limit)
    return list(
        await session.scalars(
            statement if payment_id is None else statement.where(PaymentRefund.payment_id == payment_id)
        )
    )


async def list_refunds_under_way(session: AsyncSession, limit: int) -> list[str]:
    """What the service calls them, longest unchanged first."""
    statement = (
        select(PaymentRefund.service_id)
        .where(
            PaymentRefund.state.in_((RefundState.ASKED, RefundState.PROCESSING)), PaymentRefund.service_id.is_not(None)
        )
        .order_by(PaymentRefund.changed_at)
        .limit(limit)
    )
    return [found for found in await session.scalars(statement) if found is not None]


async def sum_refunded_minor(session: AsyncSession, payment_id: UUID) -> int:
    """What of a payment was sent back through the service, or is on its way."""
    statement = select(func.coalesce(func.sum(PaymentRefund.gross_minor), 0)).where(
        PaymentRefund.payment_id == payment_id, PaymentRefund.state != RefundState.FAILED
    )
    return int((await session.execute(statement)).scalar_one())


async def lock_dispute(session: AsyncSession, service_id: str) -> PaymentDispute | None:
    statement = select(PaymentDispute).where(PaymentDispute.service_id == service_id).with_for_update()
    return await session.scalar(statement.execution_options(populate_existing=True))


async def insert_dispute(session: AsyncSession, payment: Payment, seen: DisputeSeen) -> None:
    """As the operator; unless it is known."""
    values = {
        "tenant_id": payment.tenant_id,
        "service_id": seen.dispute_id,
        "payment_id": payment.id,
        "currency": seen.currency,
        "amount_minor": seen.amount_minor,
        "reason": seen.reason,
        "state": seen.state,
    }
    await session.execute(upsert(PaymentDispute).values(values).on_conflict_do_nothing(index_elements=["service_id"]))


async def update_dispute(session: AsyncSession, service_id: str, **values: Any) -> None:
    await session.execute(
        update(PaymentDispute)
        .where(PaymentDispute.service_id == service_id)
        .values(changed_at=func.now(), **values)
        .execution_options(synchronize_session=False)
    )


async def list_disputes(session: AsyncSession, *, limit: int = _LIST_LIMIT) -> list[PaymentDispute]:
    """Newest first."""
    statement = select(PaymentDispute).order_by(PaymentDispute.opened_at.desc()).limit(limit)
    return list(await session.scalars(statement))


async def is_known(session: AsyncSession, event_id: str) -> bool:
    return await session.scalar(select(PaymentEvent.id).where(PaymentEvent.id == event_id)) is not None


async def insert_event(session: AsyncSession, event: Event, effect: str) -> bool:
    """Whether it is new. Of two that bring the same one, the second waits here for the first's end."""
    statement = (
        upsert(PaymentEvent)
        .values(id=event.id, kind=event.kind, object_id=event.object_id, happened_at=event.happened_at, effect=effect)
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(PaymentEvent.id)
    )
    return await session.scalar(statement) is not None


async def read_seen_until(session: AsyncSession) -> datetime | None:
    return await session.scalar(select(PaymentEventLook.seen_until))


async def set_seen_until(session: AsyncSession, moment: datetime) -> None:
    statement = upsert(PaymentEventLook).values(one=True, seen_until=moment)
    await session.execute(statement.on_conflict_do_update(index_elements=["one"], set_={"seen_until": moment}))


async def put_into_quarantine(
    session: AsyncSession, *, service_id: str, reason: str, payment_id: UUID | None, currency: str, amount_minor: int
) -> None:
    """As the operator; once for each thing of the service's."""
    values = {
        "id": new_id(),
        "service_id": service_id,
        "reason": reason,
        "payment_id": payment_id,
        "currency": currency,
        "amount_minor": amount_minor,
    }
    statement = upsert(PaymentQuarantine).values(values)
    await session.execute(statement.on_conflict_do_nothing(index_elements=["service_id"]))


async def list_quarantined(session: AsyncSession, *, limit: int = _LIST_LIMIT) -> list[PaymentQuarantine]:
    """What is open, oldest first."""
    statement = (
        select(PaymentQuarantine)
        .where(PaymentQuarantine.closed_at.is_(None))
        .order_by(PaymentQuarantine.id)
        .limit(limit)
    )
    return list(await session.scalars(statement))


async def close_quarantined(session: AsyncSession, quarantined_id: UUID, resolution: str) -> bool:
    """Whether it was open."""
    statement = (
        update(PaymentQuarantine)
        .where(PaymentQuarantine.id == quarantined_id, PaymentQuarantine.closed_at.is_(None))
        .values(closed_at=func.now(), resolution=resolution)
        .returning(PaymentQuarantine.id)
    )
    return await session.scalar(statement) is not None


async def find_auto_top_up(session: AsyncSession, scope: TenantScope) -> AutoTopUp | None:
    statement = select(AutoTopUp).where(AutoTopUp.tenant_id == scope.tenant_id)
    return await session.scalar(statement.execution_options(populate_existing=True))


async def put_auto_top_up(session: AsyncSession, scope: TenantScope, **values: Any) -> None:
    """What somebody decided: it begins anew, without the failures of before."""
    changed = {**values, "failures": 0, "next_at": func.now(), "changed_at": func.now()}
    statement = upsert(AutoTopUp).values(tenant_id=scope.tenant_id, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["tenant_id"], set_=changed))


async def update_auto_top_up(session: AsyncSession, tenant_id: UUID, **values: Any) -> None:
    await session.execute(update(AutoTopUp).where(AutoTopUp.tenant_id == tenant_id).values(**values))


async def count_auto_top_ups(session: AsyncSession, tenant_id: UUID) -> int:
    """Of this calendar month (UTC, by the database's clock) that succeeded or may yet."""
    statement = select(func.count()).where(
        Payment.tenant_id == tenant_id,
        Payment.purpose == Purpose.AUTO_TOP_UP,
        Payment.state.in_((*UNDER_WAY, PaymentState.SUCCEEDED, PaymentState.QUARANTINED)),
        Payment.created_at >= func.date_trunc("month", func.now()),
    )
    return int((await session.execute(statement)).scalar_one())


async def list_running_low(session: AsyncSession, tenant_id: UUID | None = None, *, limit: int = 100) -> list[UUID]:
    """As the operator: who wants to be topped up, is below their mark, has a method, and has no such payment under way.
    Of all, or whether one tenant is."""
    under_way = exists().where(
        Payment.tenant_id == AutoTopUp.tenant_id,
        Payment.purpose == Purpose.AUTO_TOP_UP,
        Payment.state.in_(UNDER_WAY),
    )
    statement = (
        select(AutoTopUp.tenant_id)
        .join(Budget, Budget.tenant_id == AutoTopUp.tenant_id)
        .join(Tenant, Tenant.id == AutoTopUp.tenant_id)
        .join(LegalEntity, LegalEntity.id == Tenant.legal_entity_id)
        .join(PaymentMethod, (PaymentMethod.tenant_id == AutoTopUp.tenant_id) & PaymentMethod.is_default)
        .where(
            AutoTopUp.is_on,
            AutoTopUp.next_at <= func.now(),
            Budget.funds_nano - Budget.posted_nano < AutoTopUp.below_nano,
            Tenant.state == TenantState.ACTIVE,
            LegalEntity.payments == Payments.STRIPE,
            ~under_way,
        )
        .order_by(AutoTopUp.next_at)
        .limit(limit)
    )
    return list(
        await session.scalars(statement if tenant_id is None else statement.where(AutoTopUp.tenant_id == tenant_id))
    )
