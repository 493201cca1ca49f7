"""Weighted virtual token counters: VTC of Sheng et al., "Fairness in Serving Large Language Models" (OSDI'24, arXiv
2401.00588), charged at dispatch and corrected at the end.

The paper charges a prompt when it is dispatched and each output token when it is made. We do not see each token in
time, so a request is charged when it is dispatched, and the difference to what it really used is taken back or added
when that is known. The dispatcher charges what requests there cost on average (`expected_cost`), at most the bounds:
between the paper's nothing and all of them. What follows from the paper's proof, with that change:

- Two accounts that wait at the same time never differ by more than U in their counters (the paper's lemma 4.3).
- What two accounts of equal weight are served in any time in which both always have something waiting differs by at
  most 2·U (theorem 4.4), where U = max(w_p·L_input, w_q·M). M is the most tokens that a running batch holds; here they
  are counted by their bounds, so that U is the most weighted tokens that were ever in flight at once, and no single
  request exceeds that either.

The proof needs three things of the code. The account with the smallest counter is served, always. Whoever comes to
wait is lifted to the floor, which is the smallest counter of those who wait, or that which the last one had before it
was served, if that is less; and when nobody is left waiting, that which the last one had after it was served. So
idleness saves up nothing, and what was served while nobody waited is held against nobody. Who had nothing waiting and
ran less than its share begins at the floor even if it was served more than that before: the theorem is about times in
which both wait, and what was served before one of them did is in none. And the correction of a
request from before a lift never takes an account below where it was lifted to: else somebody could send requests with
huge bounds while nobody waits, and be paid back while others do.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

INPUT_WEIGHT = 1
OUTPUT_WEIGHT = 2
"""w_p and w_q, as in the paper's evaluation: a token of output keeps the engine busy for longer than one of input."""

# Counters are whole numbers, so that they are exact however long they run; weights up to this divide a token.
_PER_TOKEN = 1 << 20


def cost_of(prompt_tokens: int, completion_tokens: int) -> int:
    """What a request takes of the engine, in weighted tokens."""
    return INPUT_WEIGHT * prompt_tokens + OUTPUT_WEIGHT * completion_tokens


class Charge(NamedTuple):
    """What one dispatched request was charged; `lifts` is how often its account had been lifted by then."""

    amount: int
    weight: int
    lifts: int


@dataclass(slots=True, eq=False)
class Account:
    """One tenant, or all of those that are unverified. `counter` is in fractions of a weighted token."""

    key: Hashable
    counter: int = 0
    lifts: int = 0
    correctable: int = 0
    """How far corrections of requests from before the last lift may still lower the counter."""
    running: int = 0
    waiting: int = 0

    def is_idle(self) -> bool:
        return not (self.running or self.waiting)


class Counters:
    """All counters of one kind of work at one deployment. `level` is the floor, as the last one served left it."""

    def __init__(self) -> None:
        self.level = 0

    def lift(self, account: Account, floor: int, *, anew: bool = False) -> None:
        """It had nothing waiting, and now it has; `anew`: what it was served before is not held against it either."""
        account.correctable = 0 if anew else max(0, account.counter - floor)
        account.counter = floor if anew else max(account.counter, floor)
        account.lifts += 1

    def charge(self, account: Account, cost: int, weight: int) -> Charge:
        """It is served: a request that may cost so many weighted tokens."""
        amount = cost * _PER_TOKEN // weight
        account.counter += amount
        return Charge(amount, weight, account.lifts)

    def charge_more(self, account: Account, charge: Charge, cost: int) -> Charge:
        """It may cost so much more."""
        amount = cost * _PER_TOKEN // charge.weight
        account.counter += amount
        return charge._replace(amount=charge.amount + amount)

    def correct(self, account: Account, charge: Charge, cost: int) -> None:
        """The request has ended, and did cost so much."""
        too_much = charge.amount - cost * _PER_TOKEN // charge.weight
        if too_much > 0 and charge.lifts != account.lifts:
            too_much = min(too_much, account.correctable)
            account.correctable -= too_much
        account.counter -= too_much
