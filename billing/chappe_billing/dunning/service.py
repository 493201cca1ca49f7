"""Taking the steps that are due, and what the operator says about them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.alerts.kinds import NOTICE
from chappe_billing.budgets.queries import lock_budgets
from chappe_billing.dunning import queries
from chappe_billing.dunning.queries import Debtor, Pause
from chappe_billing.dunning.rules import DEFAULT_POLICY, Case, Policy, Step, StepKind, decide, is_overdue, level_of
from chappe_billing.invoices import queries as invoices
from chappe_billing.invoices.queries import OpenInvoice
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import INVOICE, TENANT, TenantId, encode_id, new_id
from chappe_kernel.money import format_nano
from chappe_store.audit_log.origin import command_origin
from chappe_store.outbox import enqueue
from chappe_store.queries import read_now
from chappe_store.session import Database, TenantScope
from chappe_tenants.naming import clean_name
from chappe_tenants.organisations.lifecycle import Authority, Reason, TenantState
from chappe_tenants.organisations.service import change_state, get_organisation, lock_organisation

RETRY_WANTED: Final = "payment.retry_wanted"
_PAGE: Final = 1000
_LONGEST_REASON: Final = 500
_MOST_DAYS: Final = 365
_KINDS: Final[Mapping[StepKind, str]] = {
    StepKind.REMINDER: "invoice.reminder",
    StepKind.NOTICE: "invoice.overdue",
    StepKind.SUSPENSION: "organisation.suspended",
}


class BookEntry(Struct, frozen=True):
    """A tenant that owes something, as the console lists it: the amounts are what is open, `level` the highest notice
    of an invoice that still is."""

    debtor: Debtor
    currency: str
    open_nano: int
    overdue_nano: int
    oldest_due_on: date | None
    level: int
    pause: Pause | None


class Book(Struct, frozen=True):
    """A page of it; `next_after` is where the next one begins, if there is one."""

    entries: list[BookEntry]
    next_after: UUID | None


async def dun_all(database: Database) -> int:
    """Take every step that is due, of all tenants; how many that were. Safe to repeat, to kill, and to run at several
    places: one transaction for each tenant, which decides anew under its locks."""
    async with database.audit() as session:
        now = await read_now(session)
        owed = await _read_open(session)
        policies = await queries.read_policies(session)
        tenant_ids = sorted({*owed, *await queries.suspended_tenants(session)})
        cases = await _read_cases(session, tenant_ids, owed)
    taken = 0
    for tenant_id, (debtor, case) in cases.items():
        policy = policies.get(debtor.legal_entity_id, DEFAULT_POLICY)
        if debtor.stale_suspension_id is not None or not decide(policy, case, now).is_nothing:
            async with database.operator(command_origin()) as session:
                taken += await dun(session, TenantId(tenant_id))
    return taken


async def dun(session: AsyncSession, tenant_id: TenantId) -> int:
    """Take the steps of one tenant that are due; how many. As the operator.

    Locks the budgets of everybody on its open invoices, as whoever settles one does, and the tenant: what is decided is
    decided about what is open when it is committed.
    """
    first = await invoices.open_invoices(session, tenant_id=tenant_id)
    about = {tenant_id, *[one for found in first for one in await invoices.list_part_tenants(session, found.id)]}
    await lock_budgets(session, about)
    await lock_organisation(session, TenantScope(tenant_id))
    owed: dict[UUID, list[OpenInvoice]] = {tenant_id: await invoices.open_invoices(session, tenant_id=tenant_id)}
    debtor, case = (await _read_cases(session, [tenant_id], owed))[tenant_id]
    if debtor.stale_suspension_id is not None:
        # Somebody else decided about it since: it is theirs now.
        await queries.lift_suspension(session, tenant_id, debtor.stale_suspension_id)
    policy = (await queries.read_policies(session)).get(debtor.legal_entity_id, DEFAULT_POLICY)
    decision = decide(policy, case, await read_now(session))
    if decision.restores and debtor.suspension_id is not None:
        await _restore(session, tenant_id, debtor.suspension_id)
        return 1
    return sum([await _take(session, tenant_id, step) for step in decision.steps])


async def read_book(session: AsyncSession, *, limit: int, after: UUID | None = None) -> Book:
    """Who owes something that was invoiced, the most overdue first; at the end those whom dunning suspended and who owe
    nothing any more. `after` is where the page before ended."""
    today = (await read_now(session)).date()
    debts = await invoices.list_debts(session, limit=limit + 1, after=after)
    shown = debts[:limit]
    tenant_ids = [debt.tenant_id for debt in shown]
    if len(debts) <= limit:
        tenant_ids += await _suspended_without_debt(session)
    owed: dict[UUID, list[OpenInvoice]] = {}
    for one in await invoices.open_invoices_of(session, tenant_ids):
        owed.setdefault(one.tenant_id, []).append(one)
    cases = await _read_cases(session, tenant_ids, owed)
    pauses = await queries.read_pauses(session, tenant_ids)
    entries = [_entry(*cases[tenant_id], pauses.get(tenant_id), today) for tenant_id in tenant_ids]
    return Book(entries, shown[-1].invoice_id if len(debts) > limit else None)


async def _suspended_without_debt(session: AsyncSession) -> list[UUID]:
    suspended = await queries.suspended_tenants(session)
    owing = {one.tenant_id for one in await invoices.open_invoices_of(session, suspended)}
    return sorted(set(suspended) - owing)


async def pause(session: AsyncSession, tenant_id: TenantId, *, reason: str, until: datetime) -> None:
    """Leave the tenant alone until then, in place of what was said before. Raises `Invalid` and `NotFound`."""
    await lock_organisation(session, TenantScope(tenant_id))
    now = await read_now(session)
    if not now < until.astimezone(UTC) or (until - now).days > _MOST_DAYS:
        raise Invalid("until is in the future, within a year", code="invalid_date", param="until")
    cleaned = clean_name(reason, param="reason", max_length=_LONGEST_REASON)
    await queries.end_pause(session, tenant_id)
    await queries.insert_pause(session, tenant_id, new_id(), reason=cleaned, until=until)


async def resume(session: AsyncSession, tenant_id: TenantId) -> None:
    """Raises `NotFound` for a tenant that is not paused."""
    await get_organisation(session, TenantScope(tenant_id))
    if tenant_id not in await queries.read_pauses(session, [tenant_id]):
        raise NotFound("its dunning is not paused")
    await queries.end_pause(session, tenant_id)


async def get_policy(session: AsyncSession, legal_entity_id: UUID) -> Policy:
    return (await queries.read_policies(session)).get(legal_entity_id, DEFAULT_POLICY)


async def put_policy(session: AsyncSession, legal_entity_id: UUID, policy: Policy) -> Policy:
    """Raises `Invalid` naming the field."""
    for name, days, most in (("notice_days", policy.notice_days, 5), ("retry_days", policy.retry_days, 10)):
        if list(days) != sorted(set(days)) or len(days) > most or any(not 1 <= day <= _MOST_DAYS for day in days):
            raise Invalid(f"{name} are at most {most} numbers of days, ascending", param=name)
    if not policy.notice_days:
        raise Invalid("there is at least one notice", param="notice_days")
    if policy.suspend_days is not None and not policy.notice_days[-1] <= policy.suspend_days <= _MOST_DAYS:
        raise Invalid("nobody is suspended before the last notice", param="suspend_days")
    if not 1 <= policy.grace_days <= 60:  # noqa: PLR2004 -- as the database has it
        raise Invalid("grace_days is 1 to 60", param="grace_days")
    if policy.reminder_days is not None and not 1 <= policy.reminder_days <= 60:  # noqa: PLR2004 -- the same
        raise Invalid("reminder_days is 1 to 60", param="reminder_days")
    await queries.put_policy(session, legal_entity_id, policy)
    return policy


async def _read_open(session: AsyncSession) -> dict[UUID, list[OpenInvoice]]:
    found: dict[UUID, list[OpenInvoice]] = {}
    page = await invoices.open_invoices(session, limit=_PAGE)
    while page:
        for one in page:
            found.setdefault(one.tenant_id, []).append(one)
        page = await invoices.open_invoices(session, limit=_PAGE, after=page[-1].id)
    return found


async def _read_cases(
    session: AsyncSession, tenant_ids: Sequence[UUID], owed: Mapping[UUID, Sequence[OpenInvoice]]
) -> dict[UUID, tuple[Debtor, Case]]:
    debtors = await queries.read_debtors(session, tenant_ids)
    taken = await queries.read_taken(session, tenant_ids)
    failures = await queries.read_failures(session, tenant_ids)
    pauses = await queries.read_pauses(session, tenant_ids)
    return {
        tenant_id: (
            debtor,
            Case(
                state=TenantState(debtor.state),
                is_suspended_by_us=debtor.suspension_id is not None,
                invoices=tuple(owed.get(tenant_id, ())),
                taken=tuple(taken.get(tenant_id, ())),
                failures=failures.get(tenant_id, {}),
                paused_until=pauses[tenant_id].until if tenant_id in pauses else None,
            ),
        )
        for tenant_id, debtor in debtors.items()
    }


async def _take(session: AsyncSession, tenant_id: TenantId, step: Step) -> bool:
    if not await queries.insert_step(session, tenant_id, step):
        return False
    if step.kind is StepKind.RETRY:
        await enqueue(session, RETRY_WANTED, [_retry(tenant_id, step)])
        return True
    if step.kind is StepKind.SUSPENSION:
        scope = TenantScope(tenant_id)
        await change_state(session, scope, TenantState.SUSPENDED, Reason.UNPAID, Authority.OPERATOR)
        await queries.insert_suspension(session, tenant_id, new_id(), step.invoice.id)
    await _tell(session, tenant_id, _KINDS[step.kind], _data(step))
    return True


async def _restore(session: AsyncSession, tenant_id: TenantId, suspension_id: UUID) -> None:
    await change_state(session, TenantScope(tenant_id), TenantState.ACTIVE, Reason.RESOLVED, Authority.OPERATOR)
    await queries.lift_suspension(session, tenant_id, suspension_id)
    await _tell(session, tenant_id, "organisation.restored", {})


async def _tell(session: AsyncSession, tenant_id: TenantId, kind: str, data: Mapping[str, Any]) -> None:
    await enqueue(session, NOTICE, [{"kind": kind, "tenant_id": encode_id(TENANT, tenant_id), "data": data}])


def _retry(tenant_id: TenantId, step: Step) -> dict[str, Any]:
    return {
        "tenant_id": str(tenant_id),
        "invoice_id": str(step.invoice.id),
        "amount": format_nano(step.invoice.open_nano),
        "currency": step.invoice.currency,
        "attempt": step.level,
    }


def _data(step: Step) -> dict[str, Any]:
    invoice = step.invoice
    return {
        "invoice_id": encode_id(INVOICE, invoice.id),
        "number": invoice.number,
        "open": format_nano(invoice.open_nano),
        "currency": invoice.currency,
        "due_on": None if invoice.due_on is None else invoice.due_on.isoformat(),
        "level": step.level,
        "suspends_on": None if step.suspends_on is None else step.suspends_on.isoformat(),
    }


def _entry(debtor: Debtor, case: Case, found: Pause | None, today: date) -> BookEntry:
    overdue = [one for one in case.invoices if is_overdue(one, today)]
    return BookEntry(
        debtor=debtor,
        currency=case.invoices[0].currency if case.invoices else "",
        open_nano=sum(one.open_nano for one in case.invoices),
        overdue_nano=sum(one.open_nano for one in overdue),
        oldest_due_on=min((one.due_on for one in overdue if one.due_on is not None), default=None),
        level=max((level_of(case, one) for one in case.invoices), default=0),
        pause=found,
    )
