"""What has to be done about open invoices today, and what must not. Pure; days are of UTC.

Every step is taken once for an invoice, so whoever is killed between two goes on where it was. Only the highest notice
that is due is sent: after a long standstill nobody gets four letters in an hour. Nobody is suspended who was not told
in the last notice that they would be, and had `grace_days` to pay since; who paid, or is paused, never is. What
dunning suspended opens again as soon as nothing is overdue, whatever else holds.
"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from chappe_billing.invoices.queries import OpenInvoice
from chappe_tenants.organisations.lifecycle import TenantState


class StepKind(StrEnum):
    """In the order in which they come."""

    REMINDER = "reminder"
    NOTICE = "notice"
    RETRY = "retry"
    SUSPENSION = "suspension"


class Policy(Struct, frozen=True):
    """A legal entity's, in days: before the due day, after it, after the first failure. `suspend_days` of None suspends
    nobody."""

    enabled: bool = True
    reminder_days: int | None = 3
    notice_days: tuple[int, ...] = (1, 8, 15)
    retry_days: tuple[int, ...] = (1, 3, 7)
    suspend_days: int | None = 30
    grace_days: int = 7


DEFAULT_POLICY = Policy()


class Taken(Struct, frozen=True):
    """A step that was taken, and on which day."""

    invoice_id: UUID
    kind: StepKind
    level: int
    on: date


class Failure(Struct, frozen=True):
    """Collecting an invoice has failed so often since then, and nothing came in. `before`: so often it had failed
    before a payment came in, which was taken back."""

    first_on: date
    times: int
    before: int = 0


class Case(Struct, frozen=True):
    """A tenant at one instant. `invoices` are those of which something is open. `is_suspended_by_us` is of what dunning
    itself did and nobody has changed since."""

    state: TenantState
    is_suspended_by_us: bool
    invoices: tuple[OpenInvoice, ...]
    taken: tuple[Taken, ...] = ()
    failures: Mapping[UUID, Failure] = {}
    paused_until: datetime | None = None

    def has_taken(self, invoice_id: UUID, kind: StepKind, level: int) -> bool:
        return any(one.invoice_id == invoice_id and one.kind is kind and one.level == level for one in self.taken)


class Step(Struct, frozen=True):
    """One thing to do. `suspends_on` is what the last notice announces."""

    kind: StepKind
    level: int
    invoice: OpenInvoice
    suspends_on: date | None = None


class Decision(Struct, frozen=True):
    steps: tuple[Step, ...] = ()
    restores: bool = False

    @property
    def is_nothing(self) -> bool:
        return not self.steps and not self.restores


def decide(policy: Policy, case: Case, now: datetime) -> Decision:
    """What is to be done at `now`, the database's time. Nothing more once it is done."""
    today = now.date()
    if case.is_suspended_by_us and not any(is_overdue(one, today) for one in case.invoices):
        return Decision(restores=True)
    if not policy.enabled or (case.paused_until is not None and now < case.paused_until):
        return Decision()
    if case.state is not TenantState.ACTIVE and not case.is_suspended_by_us:
        return Decision()
    steps = [step for invoice in case.invoices for step in _steps(policy, case, invoice, today)]
    suspensions = [step for step in steps if step.kind is StepKind.SUSPENSION][:1]
    return Decision((*(step for step in steps if step.kind is not StepKind.SUSPENSION), *suspensions))


def is_overdue(invoice: OpenInvoice, today: date) -> bool:
    return invoice.open_nano > 0 and invoice.due_on is not None and invoice.due_on < today


def level_of(case: Case, invoice: OpenInvoice) -> int:
    """The highest notice that was sent about it; 0 for none."""
    return max((one.level for one in _notices(case, invoice)), default=0)


def _steps(policy: Policy, case: Case, invoice: OpenInvoice, today: date) -> Iterator[Step]:
    if invoice.open_nano <= 0:
        return
    yield from _retry(policy, case, invoice, today)
    if invoice.due_on is None or case.state is not TenantState.ACTIVE:
        return
    late_days = (today - invoice.due_on).days
    reminds = policy.reminder_days is not None and -policy.reminder_days <= late_days <= 0
    if reminds and not case.has_taken(invoice.id, StepKind.REMINDER, 1):
        yield Step(StepKind.REMINDER, 1, invoice)
    level = sum(late_days >= after for after in policy.notice_days)
    if level > level_of(case, invoice):
        yield Step(StepKind.NOTICE, level, invoice, _announced(policy, invoice, level, today))
    elif _is_time_to_suspend(policy, case, invoice, today):
        yield Step(StepKind.SUSPENSION, 1, invoice)


def _retry(policy: Policy, case: Case, invoice: OpenInvoice, today: date) -> Iterator[Step]:
    """One new try after each failure, at its day, until the schedule ends."""
    failure = case.failures.get(invoice.id)
    if failure is None or not 1 <= failure.times <= len(policy.retry_days):
        return
    is_time = today >= failure.first_on + timedelta(days=policy.retry_days[failure.times - 1])
    level = failure.before + failure.times
    if is_time and not case.has_taken(invoice.id, StepKind.RETRY, level):
        yield Step(StepKind.RETRY, level, invoice)


def _is_time_to_suspend(policy: Policy, case: Case, invoice: OpenInvoice, today: date) -> bool:
    """Once for an invoice: what somebody of the operator's has lifted stays lifted."""
    last = [one.on for one in _notices(case, invoice) if one.level >= len(policy.notice_days)]
    if policy.suspend_days is None or invoice.due_on is None or not last:
        return False
    if case.has_taken(invoice.id, StepKind.SUSPENSION, 1):
        return False
    return today >= _suspends_on(policy, invoice.due_on, min(last))


def _announced(policy: Policy, invoice: OpenInvoice, level: int, today: date) -> date | None:
    if level < len(policy.notice_days) or policy.suspend_days is None or invoice.due_on is None:
        return None
    return _suspends_on(policy, invoice.due_on, today)


def _suspends_on(policy: Policy, due_on: date, told_on: date) -> date:
    return max(due_on + timedelta(days=policy.suspend_days or 0), told_on + timedelta(days=policy.grace_days))


def _notices(case: Case, invoice: OpenInvoice) -> list[Taken]:
    return [one for one in case.taken if one.invoice_id == invoice.id and one.kind is StepKind.NOTICE]
