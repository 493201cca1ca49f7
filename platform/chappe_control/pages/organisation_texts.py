"""An organisation's states, steps and reasons in words for people: the same in the portal and the console."""

from msgspec import Struct

from chappe_control.pages.languages import N_
from chappe_tenants.organisations.lifecycle import Reason, TenantState
from chappe_tenants.organisations.relations import Relation


class StateText(Struct, frozen=True):
    """`notice` is what its own people read on every page while it lasts."""

    name: str
    colour: str
    notice: str = ""


class StepText(Struct, frozen=True):
    """A button, and what it does: asked before it is done."""

    label: str
    effect: str
    danger: bool = False


STATES = {
    TenantState.APPLIED: StateText(
        N_("Applied"),
        "blue",
        N_("Your organisation is being checked. Complete its details meanwhile; keys and models come afterwards."),
    ),
    TenantState.VERIFIED: StateText(
        N_("Verified"),
        "blue",
        N_("Your organisation is verified. Prepare everything; models answer once it is active."),
    ),
    TenantState.ACTIVE: StateText(N_("Active"), "green"),
    TenantState.SUSPENDED: StateText(
        N_("Suspended"), "yellow", N_("Your organisation is suspended: no key works, and nothing can be changed.")
    ),
    TenantState.CLOSED: StateText(N_("Closed"), "secondary"),
}

REASONS = {
    Reason.DETAILS_CHECKED: N_("Details checked"),
    Reason.CONTRACT_SIGNED: N_("Contract signed"),
    Reason.UNPAID: N_("Not paid"),
    Reason.ABUSE: N_("Abuse"),
    Reason.COMPLIANCE: N_("Compliance"),
    Reason.REQUESTED: N_("At its own request"),
    Reason.RESOLVED: N_("Resolved"),
    Reason.REJECTED: N_("Application rejected"),
    Reason.CONTRACT_ENDED: N_("Contract ended"),
}

RELATIONS = {Relation.SUBSIDIARY: N_("Subsidiary"), Relation.CUSTOMER: N_("Reseller's customer")}

_VERIFY = StepText(N_("Verify"), N_("Its people can make keys and invite others. Models stay closed to it."))
_ACTIVATE = StepText(N_("Activate"), N_("Its keys open the models from now on."))
_RESUME = StepText(N_("Resume"), N_("Its keys work again as before."))
_SUSPEND = StepText(
    N_("Suspend"),
    N_("Its keys are refused within a second, running answers end within five. Its people can sign in and look."),
    danger=True,
)
_TAKE_OVER = StepText(
    N_("Take over the suspension"), N_("Its reseller can then no longer resume it. Nothing else changes."), danger=True
)
_CLOSE = StepText(
    N_("Close"),
    N_("All of its keys are revoked and nobody can sign in to it any more. This cannot be undone."),
    danger=True,
)
_STEPS = {
    TenantState.VERIFIED: _VERIFY,
    TenantState.ACTIVE: _ACTIVATE,
    TenantState.SUSPENDED: _SUSPEND,
    TenantState.CLOSED: _CLOSE,
}


class Notice(Struct, frozen=True):
    """What the portal says on every page, and in which colour."""

    text: str
    colour: str


def state_notice(state: TenantState) -> Notice | None:
    """None while there is nothing to say."""
    found = STATES[state]
    return Notice(found.notice, found.colour) if found.notice else None


def step_text(start: str, to: TenantState) -> StepText:
    """Of the step from one state to another, or of a suspension that changes hands."""
    if start == TenantState.SUSPENDED and to is TenantState.ACTIVE:
        return _RESUME
    return _TAKE_OVER if start == to else _STEPS[to]
