"""The words in which `expectations.py` says what a route answers to whom."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias

from tests.access.world import MEMBER_ROLES, OPERATOR_ROLES, TOKENS, AccessWorld, Caller, Home

SIGN_IN = "to the portal's sign-in"
CONSOLE_SIGN_IN = "to the console's sign-in"
Outcome: TypeAlias = int | str
"""A status, or where somebody is sent who must sign in first."""

Callers: TypeAlias = frozenset[Caller]
Maker: TypeAlias = Callable[[AccessWorld], Awaitable[dict[str, str]]]
"""Makes a thing of Alpha's (or of the operator's) to ask for: the path's parameters that name it."""
Body: TypeAlias = Callable[[Home], Any] | None
"""What is sent, given where the caller belongs."""

MEMBERS: Callers = frozenset(MEMBER_ROLES)
HEADS: Callers = frozenset({Caller.OWNER, Caller.ADMIN})
MAKERS: Callers = HEADS | {Caller.DEVELOPER}
KEY: Callers = frozenset({Caller.MANAGEMENT_KEY})

OPERATOR: Callers = frozenset(OPERATOR_ROLES)
ADMINISTRATOR: Callers = frozenset({Caller.ADMINISTRATOR})
OPERATIONS: Callers = OPERATOR - {Caller.FINANCE}
MONEY: Callers = OPERATOR - {Caller.SUPPORT}
CARE: Callers = frozenset({Caller.ADMINISTRATOR, Caller.SUPPORT})


class Manner(StrEnum):
    """How a route is called."""

    PROGRAM = "a program's call, with JSON"
    FORM = "a browser's form"
    SCRIPT = "a script on one of our pages"


@dataclass(frozen=True)
class Expected:
    """What one route answers to each caller, and how to ask it.

    `of` makes what the path names, anew for each caller who may change it. `signs_out`: it ends the caller's session.
    """

    outcomes: Mapping[Caller, Outcome]
    manner: Manner = Manner.PROGRAM
    of: Maker | None = None
    body: Body = None
    signs_out: bool = False

    def but(self, outcome: Outcome, *callers: Caller) -> "Expected":
        """The same with another outcome for these."""
        return replace(self, outcomes={**self.outcomes, **dict.fromkeys(callers, outcome)})


def tenant_api(
    may: Callers,
    ok: int = 200,
    *,
    of: Maker | None = None,
    body: Body = None,
) -> Expected:
    """A route of `/api/v1`. Beta's callers have the same permissions in their own tenant, so they are denied what
    Alpha's are, and do not find what is Alpha's."""
    outcomes: dict[Caller, Outcome] = dict.fromkeys(Caller, 401)
    outcomes |= {caller: ok if caller in may else 403 for caller in MEMBERS | KEY | {Caller.INFERENCE_KEY}}
    elsewhere = 404 if of else ok
    outcomes[Caller.OTHER_KEY] = elsewhere if Caller.MANAGEMENT_KEY in may else 403
    outcomes[Caller.OTHER_OWNER] = elsewhere if Caller.OWNER in may else 403
    return Expected(outcomes, of=of, body=body)


def operator_api(
    may: Callers,
    ok: int = 200,
    *,
    of: Maker | None = None,
    body: Body = None,
) -> Expected:
    """A route of `/api/v1/operator`, which knows no tenant's callers. A token may do what its role may."""
    outcomes: dict[Caller, Outcome] = dict.fromkeys(Caller, 401)
    outcomes |= {caller: ok if caller in may else 403 for caller in OPERATOR}
    outcomes |= {token: outcomes[caller] for caller, token in TOKENS.items()}
    return Expected(outcomes, of=of, body=body)


def portal(
    may: Callers,
    ok: int = 200,
    *,
    of: Maker | None = None,
    form: Body = None,
    script: bool = False,
    signs_out: bool = False,
) -> Expected:
    """A page of the portal, or one of its forms. A key is no way in, and neither is the console's session."""
    outcomes: dict[Caller, Outcome] = dict.fromkeys(Caller, 401 if script else SIGN_IN)
    outcomes |= {caller: ok if caller in may else 403 for caller in MEMBERS}
    outcomes[Caller.OTHER_OWNER] = (404 if of else ok) if Caller.OWNER in may else 403
    return Expected(outcomes, Manner.SCRIPT if script else Manner.FORM, of=of, body=form, signs_out=signs_out)


def console(may: Callers, ok: int = 200, *, of: Maker | None = None, form: Body = None) -> Expected:
    """A page of the console, or one of its forms."""
    outcomes: dict[Caller, Outcome] = dict.fromkeys(Caller, CONSOLE_SIGN_IN)
    outcomes |= {caller: ok if caller in may else 403 for caller in OPERATOR}
    return Expected(outcomes, Manner.FORM, of=of, body=form)


def internal(ok: int = 200, *, of: Maker | None = None, body: Body = None) -> Expected:
    """What regions call with their own credential. Another region does not find what is this one's."""
    outcomes: dict[Caller, Outcome] = dict.fromkeys(Caller, 401)
    outcomes |= {Caller.REGION: ok, Caller.OTHER_REGION: 404 if of else ok}
    return Expected(outcomes, of=of, body=body)


def anybody(
    ok: Outcome = 200,
    *,
    of: Maker | None = None,
    form: Body = None,
    body: Body = None,
    signs_out: bool = False,
) -> Expected:
    """Open to all, signed in or not."""
    manner = Manner.PROGRAM if body else Manner.FORM
    return Expected(dict.fromkeys(Caller, ok), manner, of=of, body=body or form, signs_out=signs_out)
