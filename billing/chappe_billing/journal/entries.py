"""A journal's lines, as a general ledger takes them: debits and credits that balance. Pure.

Tenants' funds are two things to an accountant: what customers have paid in and not used is deferred revenue, a
liability; what they have used and were not invoiced for is accrued revenue, an asset. Our ledger has one account for
each tenant, above or below zero; the journal moves what is below zero to an account of its own at the month's end, and
only by as much as it changed.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from msgspec import Struct

from chappe_billing.ledger.postings import AccountKind
from chappe_kernel.money import format_nano

ACCRUED_REVENUE = "accrued_revenue"
"""What tenants used before they were invoiced for it: their funds below zero."""
ACCOUNTS = (*(str(kind) for kind in AccountKind), ACCRUED_REVENUE)
_RECLASSIFIED = "accrual"
COLUMNS = ("date", "document", "account", "name", "region", "debit", "credit", "currency")


class Movement(Struct, frozen=True):
    """What a month's transactions of one kind did to accounts of one kind: a credit is positive."""

    kind: str
    account: str
    region: str | None
    amount_nano: int


class JournalLine(Struct, frozen=True):
    """One of the amounts is 0, the other above it."""

    date: date
    document: str
    account: str
    name: str
    region: str | None
    debit_nano: int
    credit_nano: int
    currency: str


def journal_of(
    movements: Iterable[Movement],
    *,
    last_day: date,
    currency: str,
    accrued_nano: tuple[int, int],
    numbers: Mapping[str, str],
) -> list[JournalLine]:
    """In one order, whatever order they come in. `accrued_nano` is what was used and not invoiced at the month's start
    and at its end; an account without a number has its name."""
    change = accrued_nano[1] - accrued_nano[0]
    moved = [
        *movements,
        Movement(_RECLASSIFIED, ACCRUED_REVENUE, None, -change),
        Movement(_RECLASSIFIED, str(AccountKind.TENANT_FUNDS), None, change),
    ]
    ordered = sorted(moved, key=lambda one: (one.kind, ACCOUNTS.index(one.account), one.region or ""))
    return [
        JournalLine(
            date=last_day,
            document=f"{last_day:%Y-%m} {one.kind}",
            account=numbers.get(one.account, one.account),
            name=one.account,
            region=one.region,
            debit_nano=max(0, -one.amount_nano),
            credit_nano=max(0, one.amount_nano),
            currency=currency,
        )
        for one in ordered
        if one.amount_nano
    ]


def as_csv(lines: Sequence[JournalLine]) -> str:
    """With a last line of totals, which are equal."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for line in lines:
        writer.writerow(
            (
                *(line.date, line.document, line.account, line.name, line.region or ""),
                *(_amount(line.debit_nano), _amount(line.credit_nano), line.currency),
            )
        )
    if lines:
        debit, credit = sum(line.debit_nano for line in lines), sum(line.credit_nano for line in lines)
        last = lines[-1]
        writer.writerow((last.date, "total", "", "", "", format_nano(debit), format_nano(credit), last.currency))
    return text.getvalue()


def _amount(amount_nano: int) -> str:
    return format_nano(amount_nano) if amount_nano else ""
