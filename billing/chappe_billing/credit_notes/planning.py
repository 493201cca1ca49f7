"""How much of each of an invoice's amounts a credit note takes back. Pure."""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct

from chappe_billing.documents.content import DocumentContent, DocumentLine
from chappe_billing.invoicing.fundings import FundingKind
from chappe_billing.invoicing.planning import tax_on
from chappe_kernel.errors import Conflict, Invalid

CHARGES_ONLY = frozenset({None, "advance"})
"""Components of lines that are deductions, and are credited with what they were deducted from."""


class Amounts(Struct, frozen=True):
    """Of a tenant's part of an invoice; see `InvoicePart`."""

    charged_nano: int
    rounding_nano: int
    lines_minor: int
    gifts_minor: int
    advances_minor: int
    net_minor: int
    tax_minor: int

    @property
    def gross_minor(self) -> int:
        return self.net_minor + self.tax_minor

    def less(self, other: "Amounts") -> "Amounts":
        return Amounts(*(getattr(self, name) - getattr(other, name) for name in self.__struct_fields__))


class Used(Struct, frozen=True):
    """How much of a funding an invoice used and no credit note gave back; in the order in which it was used."""

    funding_id: UUID
    kind: FundingKind
    amount_nano: int


def is_charge(line: DocumentLine) -> bool:
    return line.component not in CHARGES_ONLY


def lines_left(invoice: DocumentContent, notes: Sequence[DocumentContent]) -> list[DocumentLine]:
    """Charges of an invoice that no credit note has taken back."""
    credited = Counter(line for note in notes for line in note.lines if is_charge(line))
    left = []
    for line in invoice.lines:
        if not is_charge(line):
            continue
        if credited[line]:
            credited[line] -= 1
        else:
            left.append(line)
    return left


def chosen_lines(
    invoice: DocumentContent, notes: Sequence[DocumentContent], numbers: Sequence[int]
) -> list[DocumentLine]:
    """By their numbers on the invoice, from 1. Raises `Invalid` for what is no charge, and `Conflict`
    (`already_credited`)."""
    if len(set(numbers)) != len(numbers):
        raise Invalid("a line is credited once", param="lines")
    left = Counter(lines_left(invoice, notes))
    chosen = []
    for number in numbers:
        if not 1 <= number <= len(invoice.lines) or not is_charge(invoice.lines[number - 1]):
            raise Invalid(f"line {number} of the invoice is no charge", param="lines")
        line = invoice.lines[number - 1]
        if not left[line]:
            raise Conflict(f"line {number} is credited already", code="already_credited", param="lines")
        left[line] -= 1
        chosen.append(line)
    return chosen


def amounts_of_lines(rest: Amounts, lines: Sequence[DocumentLine], *, rate_bp: int, minor_nano: int) -> Amounts:
    """Of a part of what is left: taxed money comes back first, then advances, then gifts. Its tax is in proportion, and
    all that is left with the last of it. Raises `Invalid` when the lines together give nothing back."""
    credited = sum(line.net_minor for line in lines)
    if not 0 < credited <= rest.lines_minor:
        raise Invalid("these lines together give nothing back", param="lines")
    net = min(credited, rest.net_minor)
    advances = max(0, min(credited - net, rest.advances_minor))
    tax = rest.tax_minor if net == rest.net_minor else min(rest.tax_minor, tax_on(net, rate_bp))
    return Amounts(
        charged_nano=credited * minor_nano,
        rounding_nano=0,
        lines_minor=credited,
        gifts_minor=credited - net - advances,
        advances_minor=advances,
        net_minor=net,
        tax_minor=tax,
    )


def given_back(used: Sequence[Used], kind: FundingKind, amount_nano: int) -> list[tuple[UUID, int]]:
    """Of fundings of one kind, the last that was used first; with their signs. What had been asked for again is given
    back when all is."""
    of_kind = [one for one in used if one.kind is kind and one.amount_nano]
    if sum(one.amount_nano for one in of_kind) == amount_nano:
        return [(one.funding_id, one.amount_nano) for one in of_kind]
    back = []
    for one in reversed(of_kind):
        taken = max(0, min(one.amount_nano, amount_nano))
        amount_nano -= taken
        if taken:
            back.append((one.funding_id, taken))
    return back
