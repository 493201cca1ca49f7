"""The states of an organisation: which follows which, who may decide it and why, and what each state opens.

Pure. The database has the transitions once more, in a trigger of its own, and a test compares the two.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum

from msgspec import Struct

from chappe_kernel.errors import Conflict, Denied, Invalid


class TenantState(StrEnum):
    """In the order of an organisation's life. Only what is active may call models."""

    APPLIED = "applied"
    VERIFIED = "verified"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class Authority(StrEnum):
    """Who decides about a state: the operator, or the reseller whose customer it is."""

    OPERATOR = "operator"
    RESELLER = "reseller"


class Reason(StrEnum):
    """Why a state was left for another. The organisation is told."""

    DETAILS_CHECKED = "details_checked"
    CONTRACT_SIGNED = "contract_signed"
    UNPAID = "unpaid"
    ABUSE = "abuse"
    COMPLIANCE = "compliance"
    REQUESTED = "requested"
    RESOLVED = "resolved"
    REJECTED = "rejected"
    CONTRACT_ENDED = "contract_ended"


class Access(StrEnum):
    """What members who sign in may do, as far as their role goes."""

    NOTHING = "nothing"
    READ = "read"
    """They see everything, money included, and change nothing."""
    APPLY = "apply"
    """They see everything, and complete what the operator has to check."""
    PREPARE = "prepare"
    """They change everything, and call no model."""
    EVERYTHING = "everything"


class Effect(Struct, frozen=True):
    """What a state opens. Inference is meant for API keys and browser tokens alike."""

    members: Access
    management_keys: bool = False
    inference: bool = False


EFFECTS: Mapping[TenantState, Effect] = {
    TenantState.APPLIED: Effect(Access.APPLY),
    TenantState.VERIFIED: Effect(Access.PREPARE, management_keys=True),
    TenantState.ACTIVE: Effect(Access.EVERYTHING, management_keys=True, inference=True),
    TenantState.SUSPENDED: Effect(Access.READ),
    TenantState.CLOSED: Effect(Access.NOTHING),
}


def effect_of(state: str) -> Effect:
    """Of a tenant's column `state`."""
    return EFFECTS[TenantState(state)]


INITIAL = frozenset({TenantState.APPLIED, TenantState.VERIFIED, TenantState.ACTIVE})
"""The states that an organisation can begin in."""

Transition = tuple[TenantState, TenantState]

_OPERATORS_OWN: Mapping[Transition, frozenset[Reason]] = {
    (TenantState.APPLIED, TenantState.VERIFIED): frozenset({Reason.DETAILS_CHECKED}),
    (TenantState.VERIFIED, TenantState.ACTIVE): frozenset({Reason.CONTRACT_SIGNED}),
}
_BOTHS: Mapping[Transition, frozenset[Reason]] = {
    (TenantState.APPLIED, TenantState.CLOSED): frozenset({Reason.REJECTED, Reason.REQUESTED}),
    (TenantState.VERIFIED, TenantState.CLOSED): frozenset({Reason.REJECTED, Reason.REQUESTED}),
    (TenantState.ACTIVE, TenantState.SUSPENDED): frozenset(
        {Reason.UNPAID, Reason.ABUSE, Reason.COMPLIANCE, Reason.REQUESTED}
    ),
    (TenantState.SUSPENDED, TenantState.ACTIVE): frozenset({Reason.RESOLVED}),
    (TenantState.ACTIVE, TenantState.CLOSED): frozenset({Reason.CONTRACT_ENDED, Reason.ABUSE, Reason.REQUESTED}),
    (TenantState.SUSPENDED, TenantState.CLOSED): frozenset(
        {Reason.CONTRACT_ENDED, Reason.UNPAID, Reason.ABUSE, Reason.REQUESTED}
    ),
}
TRANSITIONS: Mapping[Transition, frozenset[Reason]] = {**_OPERATORS_OWN, **_BOTHS}
"""Every step that there is, with the reasons that it can have. A closed organisation stays closed."""


class Standing(Struct, frozen=True):
    """The state of an organisation, and who decided it."""

    state: TenantState
    decided_by: Authority = Authority.OPERATOR


def possible_steps(standing: Standing, authority: Authority) -> Iterator[tuple[TenantState, frozenset[Reason]]]:
    """Where this authority may take the organisation from here, and for which reasons.

    A reseller neither lets anybody in nor lifts what the operator has suspended. The operator may make a reseller's
    suspension its own, so that the reseller cannot lift it.
    """
    by_operator = authority is Authority.OPERATOR
    for (start, to), reasons in (TRANSITIONS if by_operator else _BOTHS).items():
        held = start is TenantState.SUSPENDED and standing.decided_by is Authority.OPERATOR and not by_operator
        if start is standing.state and not (held and to is TenantState.ACTIVE):
            yield to, reasons
    if by_operator and standing == Standing(TenantState.SUSPENDED, Authority.RESELLER):
        yield TenantState.SUSPENDED, TRANSITIONS[TenantState.ACTIVE, TenantState.SUSPENDED]


def check_step(standing: Standing, to: TenantState, reason: Reason, authority: Authority) -> None:
    """Raises `Conflict` for a step that there is not from here, `Denied` for one that is not this authority's to take,
    `Invalid` for a reason that the step cannot have."""
    allowed = dict(possible_steps(standing, authority))
    if to not in allowed:
        if to in dict(possible_steps(standing, Authority.OPERATOR)):
            raise Denied(f"only the operator takes this organisation to {to}", code="operator_decides", param="state")
        raise Conflict(f"an organisation that is {standing.state} cannot become {to}", code="no_such_transition")
    if reason not in allowed[to]:
        known = ", ".join(sorted(allowed[to]))
        raise Invalid(f"the reason to become {to} is one of: {known}", code="invalid_reason", param="reason")
