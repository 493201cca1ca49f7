"""Which state follows which, who decides it and why: every combination that there is."""

from itertools import product

import pytest

from chappe_control.permissions import ALLOWED, OPEN_IN, Permission, is_open
from chappe_kernel.errors import ChappeError, Conflict, Denied, Invalid
from chappe_tenants.operators.service import OperatorRole
from chappe_tenants.organisations.lifecycle import (
    EFFECTS,
    INITIAL,
    TRANSITIONS,
    Access,
    Authority,
    Reason,
    Standing,
    TenantState,
    check_step,
    possible_steps,
)

S = TenantState
# Written down a second time on purpose.
STEPS = {
    (S.APPLIED, S.VERIFIED): "operator",
    (S.APPLIED, S.CLOSED): "both",
    (S.VERIFIED, S.ACTIVE): "operator",
    (S.VERIFIED, S.CLOSED): "both",
    (S.ACTIVE, S.SUSPENDED): "both",
    (S.ACTIVE, S.CLOSED): "both",
    (S.SUSPENDED, S.ACTIVE): "both",
    (S.SUSPENDED, S.CLOSED): "both",
}


@pytest.mark.parametrize("start", S)
@pytest.mark.parametrize("authority", Authority)
@pytest.mark.parametrize("decided_by", Authority)
def test_each_step_is_taken_by_whom_and_for_what_the_table_says(
    start: S, authority: Authority, decided_by: Authority
) -> None:
    standing = Standing(start, decided_by)
    for to, reason in product(S, Reason):
        refusal = refused(standing, to, reason, authority)
        if not is_possible(standing, to, authority):
            assert refusal in {Conflict, Denied}
        elif (start, to) in TRANSITIONS:
            assert refusal is (None if reason in TRANSITIONS[start, to] else Invalid)


def is_possible(standing: Standing, to: S, authority: Authority) -> bool:
    start = standing.state
    if start is to:
        takes_over = (S.SUSPENDED, Authority.RESELLER, Authority.OPERATOR)
        return (start, standing.decided_by, authority) == takes_over
    who = STEPS.get((start, to))
    lifts_the_operators = (start, to, standing.decided_by) == (S.SUSPENDED, S.ACTIVE, Authority.OPERATOR)
    return who is not None and (authority is Authority.OPERATOR or (who == "both" and not lifts_the_operators))


def refused(standing: Standing, to: S, reason: Reason, authority: Authority) -> type[ChappeError] | None:
    try:
        check_step(standing, to, reason, authority)
    except ChappeError as error:
        return type(error)
    return None


def test_nothing_follows_closed() -> None:
    for authority, decided_by in product(Authority, Authority):
        assert not list(possible_steps(Standing(S.CLOSED, decided_by), authority))


def test_every_other_state_leads_on_and_can_be_closed() -> None:
    for state in set(S) - {S.CLOSED}:
        assert S.CLOSED in dict(possible_steps(Standing(state), Authority.OPERATOR))


def test_every_state_is_reached_and_every_reason_used() -> None:
    assert INITIAL | {to for _, to in TRANSITIONS} == set(S)
    assert frozenset().union(*TRANSITIONS.values()) == set(Reason)


def test_a_reseller_is_told_that_the_operator_decides() -> None:
    with pytest.raises(Denied) as raised:
        check_step(Standing(S.APPLIED), S.VERIFIED, Reason.DETAILS_CHECKED, Authority.RESELLER)
    assert raised.value.code == "operator_decides"


def test_only_an_active_organisation_calls_models() -> None:
    assert {state for state, effect in EFFECTS.items() if effect.inference} == {S.ACTIVE}
    assert {state for state, effect in EFFECTS.items() if effect.management_keys} == {S.VERIFIED, S.ACTIVE}


@pytest.mark.parametrize("permission", Permission)
def test_a_state_only_takes_away(permission: Permission) -> None:
    """More is open in each of these than in the one before it."""
    opened = [permission in OPEN_IN[access] for access in Access]
    assert opened == sorted(opened)
    is_tenants = not ALLOWED[permission] & set(OperatorRole)
    assert is_open(S.ACTIVE, permission) is is_tenants
    assert not is_open(S.CLOSED, permission)
    if is_open(S.SUSPENDED, permission):
        # And who was suspended for what they owe can pay it.
        assert permission.value.startswith("read ") or permission is Permission.MANAGE_PAYMENTS


def test_members_see_their_money_as_long_as_they_can_sign_in() -> None:
    for state in set(S) - {S.CLOSED}:
        assert is_open(state, Permission.READ_BALANCE) and is_open(state, Permission.READ_USAGE)
