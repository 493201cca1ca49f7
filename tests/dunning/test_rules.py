"""Dunning's rules: no step twice, nobody suspended who paid, is paused or was not told, and recovery always."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chappe_billing.dunning.rules import Case, Failure, Policy, Step, StepKind, Taken, decide, is_overdue
from chappe_billing.invoices.queries import OpenInvoice
from chappe_tenants.organisations.lifecycle import TenantState

DUE = date(2026, 6, 1)
POLICY = Policy(reminder_days=3, notice_days=(1, 8, 15), retry_days=(1, 3), suspend_days=30, grace_days=7)


def invoice(number: int = 1, due_on: date | None = DUE, open_nano: int = 10**9) -> OpenInvoice:
    return OpenInvoice(
        UUID(int=number), f"F-{number}", UUID(int=9), UUID(int=8), "EUR", 2, DUE, due_on, 10**9, open_nano
    )


def case(*invoices: OpenInvoice, **more: object) -> Case:
    values: dict[str, object] = {"state": TenantState.ACTIVE, "is_suspended_by_us": False, "invoices": invoices}
    return Case(**values | more)  # type: ignore[arg-type]  # a test may change any field


def at(days_after_due: int) -> datetime:
    return datetime(DUE.year, DUE.month, DUE.day, 9, tzinfo=UTC) + timedelta(days=days_after_due)


def taken(kind: StepKind, level: int, days_after_due: int, number: int = 1) -> Taken:
    return Taken(UUID(int=number), kind, level, at(days_after_due).date())


def steps(policy: Policy, found: Case, days_after_due: int) -> list[tuple[str, int]]:
    return [(step.kind.value, step.level) for step in decide(policy, found, at(days_after_due)).steps]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (-4, []),
        (-3, [("reminder", 1)]),
        (0, [("reminder", 1)]),
        (1, [("notice", 1)]),
        (7, [("notice", 1)]),
        (8, [("notice", 2)]),
        (15, [("notice", 3)]),
        (300, [("notice", 3)]),
    ],
)
def test_of_what_was_never_asked_for_the_highest_level_alone_is_sent(day: int, expected: list[tuple[str, int]]) -> None:
    assert steps(POLICY, case(invoice()), day) == expected


def test_nobody_is_suspended_before_the_last_notice_and_its_grace() -> None:
    last = taken(StepKind.NOTICE, 3, 15)
    assert steps(POLICY, case(invoice(), taken=(last,)), 29) == []
    assert steps(POLICY, case(invoice(), taken=(last,)), 30) == [("suspension", 1)]
    late = taken(StepKind.NOTICE, 3, 100)
    (step,) = decide(POLICY, case(invoice()), at(100)).steps
    assert step.suspends_on == at(107).date(), "the last notice says when"
    assert steps(POLICY, case(invoice(), taken=(late,)), 106) == []
    assert steps(POLICY, case(invoice(), taken=(late,)), 107) == [("suspension", 1)]


def test_what_an_operator_lifted_stays_lifted() -> None:
    done = (taken(StepKind.NOTICE, 3, 15), taken(StepKind.SUSPENSION, 1, 30))
    assert steps(POLICY, case(invoice(), taken=done), 60) == []


@pytest.mark.parametrize("state", [state for state in TenantState if state is not TenantState.ACTIVE])
def test_what_others_closed_or_suspended_is_left_alone(state: TenantState) -> None:
    found = case(invoice(), state=state, failures={UUID(int=1): Failure(DUE, 1)})
    for day in (-1, 1, 15, 99):
        assert decide(POLICY, found, at(day)).is_nothing


def test_a_failed_collection_is_tried_again_by_its_schedule_and_no_further() -> None:
    failures = {UUID(int=1): Failure(DUE, 1)}
    assert steps(POLICY, case(invoice(), failures=failures), 0) == [("reminder", 1)]
    assert ("retry", 1) in steps(POLICY, case(invoice(), failures=failures), 1)
    tried = (taken(StepKind.RETRY, 1, 1), taken(StepKind.NOTICE, 1, 1))
    assert steps(POLICY, case(invoice(), failures=failures, taken=tried), 5) == [], "its answer is not known yet"
    again = {UUID(int=1): Failure(DUE, 2)}
    assert steps(POLICY, case(invoice(), failures=again, taken=tried), 2) == []
    assert steps(POLICY, case(invoice(), failures=again, taken=tried), 3) == [("retry", 2)]
    assert steps(POLICY, case(invoice(), failures={UUID(int=1): Failure(DUE, 3)}, taken=tried), 7) == []


def test_a_pause_and_a_policy_that_is_off_stop_all_but_recovery() -> None:
    ready = case(invoice(), taken=(taken(StepKind.NOTICE, 3, 15),), paused_until=at(40))
    assert decide(POLICY, ready, at(39)).is_nothing
    assert steps(POLICY, ready, 40) == [("suspension", 1)]
    assert decide(replace(POLICY, enabled=False), ready, at(99)).is_nothing
    ours = case(state=TenantState.SUSPENDED, is_suspended_by_us=True, paused_until=at(40))
    assert decide(replace(POLICY, enabled=False), ours, at(39)).restores


def test_an_invoice_without_a_day_to_pay_by_is_never_overdue() -> None:
    assert decide(POLICY, case(invoice(due_on=None)), at(999)).is_nothing


days = st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True).map(lambda found: tuple(sorted(found)))
policies = st.builds(
    Policy,
    enabled=st.booleans(),
    reminder_days=st.none() | st.integers(1, 10),
    notice_days=days,
    retry_days=days,
    suspend_days=st.none() | st.integers(40, 60),
    grace_days=st.integers(1, 20),
)
# What happens on a day: invoices that are paid, or a pause of so many days, or a failure, or the worker is down.
events = st.tuples(
    st.sampled_from(["nothing", "nothing", "pay", "pause", "fail", "down"]), st.integers(1, 3), st.integers(1, 30)
)


@given(policy=policies, happened=st.lists(events, max_size=160))
def test_whatever_happens_the_rules_hold(policy: Policy, happened: list[tuple[str, int, int]]) -> None:
    """Three invoices over months: payments, pauses, failures and a worker that is away, in any order."""
    now = at(-12)
    found = case(*(invoice(number, DUE + timedelta(days=9 * number)) for number in (1, 2, 3)))
    for what, number, length in [*happened, ("nothing", 1, 1)]:
        now += timedelta(days=1)
        wanted = UUID(int=number)
        match what:
            case "pay":
                found = replace(found, invoices=tuple(one for one in found.invoices if one.id != wanted))
                found = replace(found, failures={k: v for k, v in found.failures.items() if k != wanted})
            case "pause":
                found = replace(found, paused_until=now + timedelta(days=length))
            case "fail":
                before = found.failures.get(wanted, Failure(now.date(), 0))
                found = replace(found, failures={**found.failures, wanted: replace(before, times=before.times + 1)})
            case "down":
                continue
        decision = decide(policy, found, now)
        for step in decision.steps:
            check(policy, found, step, now)
        found = apply(found, decision.steps, restores=decision.restores, now=now)
        assert decide(policy, found, now).is_nothing, "done once, nothing is left to do"
        overdue = any(is_overdue(one, now.date()) for one in found.invoices)
        assert overdue or found.state is TenantState.ACTIVE, "who owes nothing overdue is never left suspended"


def check(policy: Policy, found: Case, step: Step, now: datetime) -> None:
    invoice_id = step.invoice.id
    assert policy.enabled and step.invoice in found.invoices and step.invoice.open_nano > 0
    assert found.paused_until is None or now >= found.paused_until
    assert not found.has_taken(invoice_id, step.kind, step.level)
    if step.kind is StepKind.SUSPENSION:
        assert is_overdue(step.invoice, now.date()) and found.state is TenantState.ACTIVE
        told = [one for one in found.taken if one.invoice_id == invoice_id and one.kind is StepKind.NOTICE]
        assert max(one.level for one in told) == len(policy.notice_days)
        assert (now.date() - max(one.on for one in told)).days >= policy.grace_days


def apply(found: Case, made: tuple[Step, ...], *, restores: bool, now: datetime) -> Case:
    done = tuple(Taken(step.invoice.id, step.kind, step.level, now.date()) for step in made)
    found = replace(found, taken=found.taken + done)
    if restores:
        return replace(found, state=TenantState.ACTIVE, is_suspended_by_us=False)
    if any(step.kind is StepKind.SUSPENSION for step in made):
        return replace(found, state=TenantState.SUSPENDED, is_suspended_by_us=True)
    return found
