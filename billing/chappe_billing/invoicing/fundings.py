"""What a tenant has to pay its charges with: gifts, advances whose tax is invoiced already, and untaxed deposits. Pure.

Each is a transaction that put something into the tenant's funds, less what later ones took back of it, less what
invoices used of it. The rest may be negative: a payment that was used can still be charged back.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

import msgspec
from msgspec import Struct

from chappe_billing.ledger.postings import TransactionKind


class FundingKind(StrEnum):
    GIFT = "gift"
    """Given, or given up: an allowance on the whole document."""
    ADVANCE = "advance"
    """A payment on account with its tax."""
    DEPOSIT = "deposit"
    """A payment on account without tax: it pays invoices, their tax included."""


FUNDINGS = {
    TransactionKind.WELCOME_CREDIT: FundingKind.GIFT,
    TransactionKind.GOODWILL_CREDIT: FundingKind.GIFT,
    TransactionKind.WRITE_OFF: FundingKind.GIFT,
    TransactionKind.TOP_UP: FundingKind.DEPOSIT,
    TransactionKind.PAYMENT: FundingKind.DEPOSIT,
    TransactionKind.CREDIT_NOTE: FundingKind.DEPOSIT,
}
TAKE_BACK = frozenset({TransactionKind.REFUND, TransactionKind.CHARGEBACK, TransactionKind.REVERSAL})


class Moved(Struct, frozen=True):
    """A transaction that put something into the tenant's funds or took it out again. `funds_nano` is without what a
    credit note gave back to other fundings, `used_nano` is what invoices used. `number` is its advance invoice's."""

    id: UUID
    kind: TransactionKind
    reverses: UUID | None
    created_at: datetime
    funds_nano: int
    tax_nano: int
    used_nano: int
    number: str | None
    issued_on: date | None


class Funding(Struct, frozen=True):
    id: UUID
    kind: FundingKind
    rest_nano: int
    number: str | None = None
    issued_on: date | None = None


class Taken(Struct, frozen=True):
    """How much of a funding an invoice uses; negative where more had been used than is left."""

    funding: Funding
    minor: int


def standing(moved: Sequence[Moved]) -> list[Funding]:
    """What is left of each, the oldest first. What was paid out without a name is of the newest deposits."""
    by_id = {one.id: one for one in moved}
    rests: defaultdict[UUID, int] = defaultdict(int)
    unnamed = 0
    for one in moved:
        root = _root(one, by_id)
        if root is not None and root.kind in FUNDINGS:
            rests[root.id] += one.funds_nano - one.used_nano
        elif root is not None and root.kind is TransactionKind.REFUND:
            unnamed -= one.funds_nano
    fundings = [
        Funding(one.id, _kind(one), rests[one.id], one.number, one.issued_on)
        for one in sorted(moved, key=lambda one: (one.created_at, one.id))
        if one.kind in FUNDINGS and (one.funds_nano or one.used_nano)
    ]
    return _without(fundings, unnamed)


def spent_elsewhere(fundings: Sequence[Funding], spent_nano: int) -> list[Funding]:
    """What is left when another system billed `spent_nano`, which the funds paid for too: the oldest first, whatever it
    is."""
    left = []
    for funding in fundings:
        gone = max(0, min(spent_nano, funding.rest_nano))
        spent_nano -= gone
        left.append(msgspec.structs.replace(funding, rest_nano=funding.rest_nano - gone))
    return left


def take(fundings: Iterable[Funding], needed_minor: int, minor_nano: int) -> list[Taken]:
    """Whole minor units of what is left, the oldest first, and all that was used too much: that is asked for again."""
    taken = []
    for funding in sorted(fundings, key=lambda funding: funding.rest_nano >= 0):
        minor = min(needed_minor, funding.rest_nano // minor_nano)
        if minor and (minor < 0 or needed_minor > 0):
            taken.append(Taken(funding, minor))
            needed_minor -= minor
    return taken


def pool(fundings: Iterable[Funding], needed_minor: int, minor_nano: int) -> list[Taken]:
    """Like `take`, but what was used too much of some is held against the others and never asked for again."""
    available = list(fundings)
    bound = sum(funding.rest_nano for funding in available) // minor_nano
    positive = (funding for funding in available if funding.rest_nano > 0)
    return take(positive, max(0, min(needed_minor, bound)), minor_nano)


def _kind(one: Moved) -> FundingKind:
    return FundingKind.ADVANCE if one.kind is TransactionKind.TOP_UP and one.tax_nano else FUNDINGS[one.kind]


def _root(one: Moved, by_id: dict[UUID, Moved]) -> Moved | None:
    """What a chain of transactions that take each other back began with; None where that moved no funding."""
    while one.kind in TAKE_BACK and one.reverses is not None:
        if one.reverses not in by_id:
            return None
        one = by_id[one.reverses]
    return one


def _without(fundings: list[Funding], unnamed_nano: int) -> list[Funding]:
    left = []
    for funding in reversed(fundings):
        is_deposit = funding.kind is FundingKind.DEPOSIT
        gone = max(0, min(unnamed_nano, funding.rest_nano)) if is_deposit else 0
        unnamed_nano -= gone
        left.append(msgspec.structs.replace(funding, rest_nano=funding.rest_nano - gone))
    return left[::-1]
