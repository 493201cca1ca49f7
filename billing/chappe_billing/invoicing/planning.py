"""What an invoice will say: lines, what is deducted from them, tax, and what is paid at once. Pure.

Money that documents show is in minor units. `minor_nano` is what one of them is (10,000,000 for a cent).
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from msgspec import Struct

from chappe_billing.invoicing.charges import Charge
from chappe_billing.invoicing.fundings import Funding, FundingKind, Taken, pool, take
from chappe_billing.tax.treatment import TaxTreatment

_BASIS_POINTS = 10_000


class Member(Struct, frozen=True):
    """One tenant's charges up to a cut-off, and what it has to pay them with."""

    tenant_id: UUID
    name: str
    charges: tuple[Charge, ...]
    fundings: tuple[Funding, ...]


class PlannedLine(Struct, frozen=True):
    charge: Charge
    net_minor: int


class PlannedPart(Struct, frozen=True, kw_only=True):
    """One tenant's part. `charged_nano` and `rounding_nano` together are `lines_minor`."""

    tenant_id: UUID
    name: str
    lines: tuple[PlannedLine, ...]
    charged_nano: int
    rounding_nano: int
    lines_minor: int
    gifts: tuple[Taken, ...] = ()
    advances: tuple[Taken, ...] = ()
    deposits: tuple[Taken, ...] = ()
    tax_minor: int = 0

    @property
    def gifts_minor(self) -> int:
        return _sum(self.gifts)

    @property
    def advances_minor(self) -> int:
        return _sum(self.advances)

    @property
    def net_minor(self) -> int:
        return self.lines_minor - self.gifts_minor - self.advances_minor

    @property
    def gross_minor(self) -> int:
        return self.net_minor + self.tax_minor

    @property
    def paid_minor(self) -> int:
        return _sum(self.deposits)


class PlannedInvoice(Struct, frozen=True):
    """`project_id` is that of an invoice for one project."""

    parts: tuple[PlannedPart, ...]
    treatment: TaxTreatment
    project_id: UUID | None = None

    @property
    def net_minor(self) -> int:
        return sum(part.net_minor for part in self.parts)

    @property
    def tax_minor(self) -> int:
        return sum(part.tax_minor for part in self.parts)

    @property
    def gross_minor(self) -> int:
        return self.net_minor + self.tax_minor

    @property
    def paid_minor(self) -> int:
        return sum(part.paid_minor for part in self.parts)


def half_up(amount: int, unit: int) -> int:
    """`amount` in whole `unit`s. A half goes away from zero, so that what takes back rounds as what it takes back."""
    whole = (2 * abs(amount) + unit) // (2 * unit)
    return whole if amount >= 0 else -whole


def tax_on(base_minor: int, rate_bp: int) -> int:
    return half_up(base_minor * rate_bp, _BASIS_POINTS)


def is_due(member: Member, minor_nano: int) -> bool:
    """Whether there is anything to invoice: what comes to nothing, or is owed to the tenant, waits."""
    return _lines(member.charges, minor_nano)[1] > 0


def plan(
    members: Sequence[Member], treatment: TaxTreatment, *, minor_nano: int, split_by_project: bool = False
) -> list[PlannedInvoice]:
    """One invoice for all members to whom anything is due; of one member alone, on request, one for each project."""
    due = [member for member in members if is_due(member, minor_nano)]
    if not due:
        return []
    if split_by_project and len(members) == 1:
        return _by_project(due[0], treatment, minor_nano)
    parts = [_part(member, member.charges, member.fundings, minor_nano) for member in due]
    return [_taxed(parts, due, treatment, minor_nano)]


def _by_project(member: Member, treatment: TaxTreatment, minor_nano: int) -> list[PlannedInvoice]:
    """What is of no project, or comes to nothing there, stands on the largest one's."""
    of_project: dict[UUID | None, list[Charge]] = {}
    for charge in member.charges:
        of_project.setdefault(charge.project_id, []).append(charge)
    sums = {project: _lines(charges, minor_nano)[1] for project, charges in of_project.items()}
    ranked = sorted((project for project in sums if project is not None), key=lambda project: (-sums[project], project))
    if not ranked:
        return plan([member], treatment, minor_nano=minor_nano)
    alone = [project for project in ranked[1:] if sums[project] > 0]
    rest = [project for project in of_project if project not in alone and project != ranked[0]]
    charged = [(ranked[0], [*of_project[ranked[0]], *(one for project in rest for one in of_project[project])])]
    charged += [(project, of_project[project]) for project in alone]
    if _lines(charged[0][1], minor_nano)[1] <= 0:
        # What is given back is more than the largest project used: all of it together is not.
        return plan([member], treatment, minor_nano=minor_nano)
    invoices, fundings = [], member.fundings
    for project, charges in charged:
        part = _part(member, charges, fundings, minor_nano)
        left = msgspec.structs.replace(member, fundings=_after(fundings, (*part.gifts, *part.advances), minor_nano))
        invoice = _taxed([part], [left], treatment, minor_nano)
        fundings = _after(left.fundings, invoice.parts[0].deposits, minor_nano)
        invoices.append(msgspec.structs.replace(invoice, project_id=project))
    return invoices


def _part(member: Member, charges: Sequence[Charge], fundings: Sequence[Funding], minor_nano: int) -> PlannedPart:
    lines, lines_minor = _lines(charges, minor_nano)
    gifts = take(_of(fundings, FundingKind.GIFT), lines_minor, minor_nano)
    advances = take(_of(fundings, FundingKind.ADVANCE), lines_minor - _sum(gifts), minor_nano)
    charged = sum(charge.amount_nano for charge in charges)
    return PlannedPart(
        tenant_id=member.tenant_id,
        name=member.name,
        lines=lines,
        charged_nano=charged,
        rounding_nano=lines_minor * minor_nano - charged,
        lines_minor=lines_minor,
        gifts=tuple(gifts),
        advances=tuple(advances),
    )


def _taxed(
    parts: Sequence[PlannedPart], members: Sequence[Member], treatment: TaxTreatment, minor_nano: int
) -> PlannedInvoice:
    """Tax on the whole, and of it each part's: so the parts' taxes are the whole's, to the minor unit."""
    taxed, base, tax = [], 0, 0
    for part, member in zip(parts, members, strict=True):
        base += part.net_minor
        own = tax_on(base, treatment.rate_bp) - tax
        tax += own
        deposits = pool(_of(member.fundings, FundingKind.DEPOSIT), part.net_minor + own, minor_nano)
        taxed.append(msgspec.structs.replace(part, tax_minor=own, deposits=tuple(deposits)))
    return PlannedInvoice(tuple(taxed), treatment)


def _lines(charges: Sequence[Charge], minor_nano: int) -> tuple[tuple[PlannedLine, ...], int]:
    lines = tuple(PlannedLine(charge, half_up(charge.amount_nano, minor_nano)) for charge in charges)
    return lines, sum(line.net_minor for line in lines)


def _of(fundings: Sequence[Funding], kind: FundingKind) -> list[Funding]:
    return [funding for funding in fundings if funding.kind is kind]


def _after(fundings: Sequence[Funding], taken: Sequence[Taken], minor_nano: int) -> tuple[Funding, ...]:
    used = {one.funding.id: one.minor * minor_nano for one in taken}
    return tuple(
        msgspec.structs.replace(funding, rest_nano=funding.rest_nano - used.get(funding.id, 0)) for funding in fundings
    )


def _sum(taken: Sequence[Taken]) -> int:
    return sum(one.minor for one in taken)
