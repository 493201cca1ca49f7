"""Making it misbehave: `/_switches`, for tests and for people. Calls need the token; nothing here is Stripe's.

`POST /_switches/NAME` takes and gives JSON. What each takes is the class beside its name in `SWITCHES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from chappe_local.stripe_stand_in import instruments
from chappe_local.stripe_stand_in.errors import Json, invalid
from chappe_local.stripe_stand_in.resources import cash, disputes
from chappe_local.stripe_stand_in.world import World

FaultKind = Literal["429", "500", "close", "hang", "slow"]


class Webhooks(Struct, frozen=True, forbid_unknown_fields=True):
    """How events are delivered from now on. All of it is off by default.

    `copies` of each; those of about the same time in the opposite order (`reorder`); `delay_s` later; kept back until
    `hold` is off; the next `drop` events never (they are listed all the same).
    """

    copies: int = 1
    reorder: bool = False
    delay_s: float = 0
    hold: bool = False
    drop: int = 0


class Fault(Struct, frozen=True, forbid_unknown_fields=True):
    """How the next `times` calls of `method` on paths like `path` go wrong.

    `429` and `500` are answered, `close` breaks the connection, `hang` never answers, `slow` answers after `delay_s`.
    With `after_commit` the call is done first, and kept under its idempotency key, but nobody hears of it.
    """

    path: str
    do: FaultKind
    method: str = "POST"
    times: int = 1
    after_commit: bool = False
    delay_s: float = 0


class Away(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether connections are broken without a word, the API's and the pages' alike."""

    away: bool


class Clock(Struct, frozen=True, forbid_unknown_fields=True):
    """How many seconds later it is at once: keys are forgotten, sessions end, debits settle."""

    advance_s: int


class OpenDispute(Struct, frozen=True, forbid_unknown_fields=True):
    """About a charge, or about a payment intent's latest one."""

    charge: str | None = None
    payment_intent: str | None = None
    reason: str = "fraudulent"
    amount: int | None = None


class DecideDispute(Struct, frozen=True, forbid_unknown_fields=True):
    dispute: str
    outcome: Literal["won", "lost"]


class Transfer(Struct, frozen=True, forbid_unknown_fields=True):
    """Money of this customer's arrives, in minor units."""

    customer: str
    amount: int
    currency: str = "eur"
    reference: str | None = None


class RefuseCards(Struct, frozen=True, forbid_unknown_fields=True):
    """The next `times` card payments are declined, whichever card it is, with this decline code."""

    times: int = 1
    decline_code: str = "generic_decline"


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    pass


@dataclass(frozen=True)
class Switch:
    takes: type[Struct]
    act: Callable[[World, Any], Json]


def run(world: World, name: str, body: bytes) -> Json:
    """Do what the switch of that name does. Raises `StripeError` for a name or a body that does not fit."""
    switch = SWITCHES.get(name)
    if switch is None:
        raise invalid(f"There is no switch {name}; there are {', '.join(SWITCHES)}.")
    try:
        given = msgspec.json.decode(body or b"{}", type=switch.takes)
    except msgspec.DecodeError as error:
        raise invalid(f"Switch {name}: {error}") from None
    return switch.act(world, given)


def state(world: World) -> Json:
    """What is switched on, and what was delivered."""
    return {
        "webhooks": world.store.setting("webhooks", {}),
        "faults": world.store.setting("faults", []),
        "away": world.store.setting("away", default=False),
        "clock_offset_s": world.store.setting("clock_offset_s", 0),
        "refuse_cards": world.store.setting(instruments.REFUSED_SETTING, None),
        "deliveries": world.store.deliveries(),
    }


def take_fault(world: World, method: str, path: str) -> Fault | None:
    """The first fault that fits this call; one time less is left of it."""
    faults = [msgspec.convert(one, Fault) for one in world.store.setting("faults", [])]
    for place, fault in enumerate(faults):
        if fault.method in (method, "*") and fnmatchcase(path, fault.path):
            left = msgspec.structs.replace(fault, times=fault.times - 1)
            rest = [*faults[:place], *([left] if left.times > 0 else []), *faults[place + 1 :]]
            world.store.set("faults", msgspec.to_builtins(rest))
            return fault
    return None


def _webhooks(world: World, given: Webhooks) -> Json:
    world.store.set("webhooks", msgspec.to_builtins(given))
    return state(world)


def _release(world: World, _given: Nothing) -> Json:
    """Send at once whatever was held back or waits for its next attempt."""
    world.store.set("webhooks", {**world.store.setting("webhooks", {}), "hold": False})
    world.store.make_deliveries_due(world.now)
    return state(world)


def _fault(world: World, given: Fault) -> Json:
    world.store.set("faults", [*world.store.setting("faults", []), msgspec.to_builtins(given)])
    return state(world)


def _away(world: World, given: Away) -> Json:
    world.store.set("away", given.away)
    return state(world)


def _advance(world: World, given: Clock) -> Json:
    if given.advance_s < 0:
        raise invalid("The clock goes forward only.")
    world.store.set("clock_offset_s", world.store.setting("clock_offset_s", 0) + given.advance_s)
    return state(world)


def _open_dispute(world: World, given: OpenDispute) -> Json:
    charge = given.charge
    if given.payment_intent is not None:
        charge = world.get("payment_intent", given.payment_intent)["latest_charge"]
    if charge is None:
        raise invalid("Name a charge, or a payment intent that has one.")
    return disputes.open_for(world, charge, given.reason, given.amount)


def _decide_dispute(world: World, given: DecideDispute) -> Json:
    return disputes.decide(world, given.dispute, given.outcome)


def _transfer(world: World, given: Transfer) -> Json:
    if given.amount <= 0:
        raise invalid("An amount that arrives is more than nothing.")
    return cash.arrive(world, given.customer, given.amount, given.currency, given.reference)


def _refuse_cards(world: World, given: RefuseCards) -> Json:
    world.store.set(instruments.REFUSED_SETTING, msgspec.to_builtins(given))
    return state(world)


def _reset(world: World, _given: Nothing) -> Json:
    """All switches as at the beginning; what was paid stays paid. The clock stays where it is."""
    for name, value in (("webhooks", {}), ("faults", []), ("away", False), (instruments.REFUSED_SETTING, None)):
        world.store.set(name, value)
    world.store.make_deliveries_due(world.now)
    return state(world)


SWITCHES: Final[Mapping[str, Switch]] = {
    "webhooks": Switch(Webhooks, _webhooks),
    "release": Switch(Nothing, _release),
    "fault": Switch(Fault, _fault),
    "away": Switch(Away, _away),
    "clock": Switch(Clock, _advance),
    "open-dispute": Switch(OpenDispute, _open_dispute),
    "decide-dispute": Switch(DecideDispute, _decide_dispute),
    "transfer": Switch(Transfer, _transfer),
    "refuse-cards": Switch(RefuseCards, _refuse_cards),
    "reset": Switch(Nothing, _reset),
}
