"""Issuing a tenant's invoices, and showing what they would be: as the operator, in the caller's transaction."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from msgspec import Struct, to_builtins
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.advances.service import document_advances
from chappe_billing.budgets import queries as budgets
from chappe_billing.documents.content import DocumentContent, DocumentKind
from chappe_billing.invoices.models import (
    Invoice,
    InvoiceCut,
    InvoiceFunding,
    InvoicePart,
    InvoiceSettlement,
    SettlementKind,
)
from chappe_billing.invoices.queries import read_unbilled
from chappe_billing.invoicing import preview_queries, queries
from chappe_billing.invoicing.charges import Charge, charges_of, total_of
from chappe_billing.invoicing.describing import Dates, content_of, within_eras
from chappe_billing.invoicing.fundings import spent_elsewhere, standing
from chappe_billing.invoicing.numbering import Issued, minor_nano_of, number_of, series_of
from chappe_billing.invoicing.planning import Member, PlannedInvoice, PlannedPart, is_due, plan
from chappe_billing.invoicing.queries import Group, Posted
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, TransactionKind
from chappe_billing.tax.service import treatment_of
from chappe_kernel.errors import Conflict, NotFound
from chappe_kernel.ids import InvoiceId, LegalEntityId, TenantId, new_id
from chappe_store.queries import read_now
from chappe_tenants.legal_entities.models import Payments
from chappe_tenants.organisations.models import Tenant

_FEES = frozenset({TransactionKind.VOLUME_DISCOUNT, TransactionKind.MINIMUM_FEE, TransactionKind.COMMITMENT_FEE})


class Draft(Struct, frozen=True):
    """What would be issued to a payer at a cut-off; `posted` is what would be invoiced with it, by tenant: of what is
    shown alone, nothing where its days were summed."""

    group: Group
    dates: Dates
    cut_off_at: datetime
    minor_nano: int
    posted: dict[UUID, list[Posted]]
    invoices: tuple[PlannedInvoice, ...]

    def contents(self) -> list[DocumentContent]:
        """As they would be, without a number."""
        return [
            content_of(invoice, self.group, self.dates, number="", minor_nano=self.minor_nano)
            for invoice in self.invoices
        ]


async def preview(session: AsyncSession, tenant_id: TenantId) -> Draft:
    """What would be invoiced if the cut-off were now; changes nothing. In a snapshot. Raises as `issue` does."""
    group = await _group(session, tenant_id)
    return await _draft(session, group, await read_now(session), None, _summed_member)


async def issue(
    session: AsyncSession, tenant_id: TenantId, *, cut_off_at: datetime | None = None, run_id: UUID | None = None
) -> list[Issued]:
    """Issue a payer's invoices of all that was posted before the cut-off (by default: now) and is on none; nothing when
    nothing is due. A run's are of the month that ends with its cut-off.

    Of a legal entity that has changed how it collects only what was posted while invoices were made here. Locks how it
    collects, the budgets of the payer and of the subsidiaries that stand on its invoice, then the series' counter.
    Raises `NotFound`, and `Conflict`: `billed_externally` when nothing is left of ours, `billed_to_parent`,
    `tax_undecided` or `seller_incomplete` and `buyer_incomplete` while something is unknown, `lines_differ` when the
    lines do not give what was posted.
    """
    group = await _group(session, tenant_id)
    await queries.hold_payments(session, group.seller.id)
    await budgets.lock_budgets(session, [member.id for member in group.members])
    for member in group.members:
        # What is deducted is named by the number of its own invoice.
        await document_advances(session, member.id)
    draft = await _draft(session, group, cut_off_at or await read_now(session), run_id, _member)
    if not draft.invoices:
        return []
    cuts = await _insert_cuts(session, draft)
    return [await _issue(session, draft, invoice, cuts, run_id) for invoice in draft.invoices]


async def _group(session: AsyncSession, tenant_id: TenantId) -> Group:
    group = await queries.find_group(session, tenant_id)
    if group is None:
        raise NotFound("no such tenant")
    if group.profile.billed_to is not None:
        raise Conflict("it stands on its parent's invoice", code="billed_to_parent")
    return group


class _Charged(Struct, frozen=True):
    """What is charged to a tenant and on no invoice, and the first day of it. `posted` is empty where whole days were
    summed: then nothing can be issued of it."""

    member: Member
    posted: list[Posted]
    first_day: date | None


_Read = Callable[[AsyncSession, Group, Tenant, datetime], Awaitable[_Charged]]


async def _draft(session: AsyncSession, group: Group, cut_off_at: datetime, run_id: UUID | None, read: _Read) -> Draft:
    minor_nano = minor_nano_of(group.seller.currency)
    eras = await queries.read_payments_since(session, group.seller.id)
    if any(payments == Payments.EXTERNAL for _, payments in eras):
        # Sums do not tell what another system billed.
        read = _member
    charged = [await read(session, group, tenant, cut_off_at) for tenant in group.members]
    if eras[-1][1] == Payments.EXTERNAL and not any(one.posted for one in charged):
        raise Conflict("its seller's own billing system makes the invoices", code="billed_externally")
    members = [one.member for one in charged]
    due = [member for member in members if is_due(member, minor_nano)]
    first_day = min((one.first_day for one in charged if one.first_day is not None), default=None)
    today = await queries.read_today(session)
    dates = within_eras(_dates(today, cut_off_at, first_day, is_month=run_id is not None), eras)
    invoices: list[PlannedInvoice] = []
    if due:
        due = [await _with_fundings(session, group, member) for member in due]
        treatment = await treatment_of(session, TenantId(group.payer.id), dates.period_to)
        split = group.profile.split_by_project and len(members) == 1
        invoices = plan(due, treatment, minor_nano=minor_nano, split_by_project=split)
    are_due = {member.tenant_id for member in due}
    of_due = {one.member.tenant_id: one.posted for one in charged if one.member.tenant_id in are_due}
    return Draft(group, dates, cut_off_at, minor_nano, of_due, tuple(invoices))


async def _summed_member(session: AsyncSession, group: Group, tenant: Tenant, cut_off_at: datetime) -> _Charged:
    """As `_member` has it, of sums. They lack what was posted before the last cut-off and came too late for it: where
    they are less than what the ledger has, and where events are dropped, each transaction is looked at after all."""
    funds = _account(group, AccountKind.TENANT_FUNDS, tenant.id).id
    since = await preview_queries.read_since(session, tenant.id)
    if since.is_archived:
        return await _member(session, group, tenant, cut_off_at)
    summed = await preview_queries.read_summed(session, tenant.id, funds, since)
    terms = await queries.read_uninvoiced_terms(session, tenant.id, funds, cut_off_at)
    charges = charges_of(summed.used) + await _charges(session, tenant.id, terms)
    if total_of(charges) != await read_unbilled(session, tenant.id):
        return await _member(session, group, tenant, cut_off_at)
    days = [one.created_at.date() for one in terms]
    first_day = min([*days, summed.first_day] if summed.first_day else days, default=None)
    return _Charged(Member(tenant.id, tenant.name, tuple(charges), ()), [], first_day)


async def _member(session: AsyncSession, group: Group, tenant: Tenant, cut_off_at: datetime) -> _Charged:
    account = _account(group, AccountKind.TENANT_FUNDS, tenant.id)
    posted = await queries.read_uninvoiced(session, tenant.id, account.id, cut_off_at)
    charges = await _charges(session, tenant.id, posted)
    if total_of(charges) != sum(one.charged_nano for one in posted):
        raise Conflict("the lines of an invoice would not give what was posted", code="lines_differ")
    first_day = min((one.created_at.date() for one in posted), default=None)
    return _Charged(Member(tenant.id, tenant.name, tuple(charges), ()), posted, first_day)


async def _charges(session: AsyncSession, tenant_id: UUID, posted: Sequence[Posted]) -> list[Charge]:
    usage = [one for one in posted if one.kind is TransactionKind.USAGE]
    corrections = [one.id for one in posted if one.kind is TransactionKind.USAGE_CORRECTION]
    terms = [one for one in posted if one.kind in _FEES or one.kind is TransactionKind.REVERSAL]
    charges = charges_of(await queries.read_used(session, tenant_id, usage)) if usage else []
    if total_of(charges) != sum(one.charged_nano for one in usage):
        charges += await queries.read_archived(session, tenant_id, [one.id for one in usage])
    if corrections:
        charges += await queries.read_corrected(session, tenant_id, corrections)
    if terms:
        charges += await queries.read_terms(session, tenant_id, terms)
    return charges


async def _with_fundings(session: AsyncSession, group: Group, member: Member) -> Member:
    account = _account(group, AccountKind.TENANT_FUNDS, member.tenant_id)
    elsewhere_nano = await queries.sum_billed_elsewhere(session, group.seller.id, member.tenant_id, account.id)
    fundings = spent_elsewhere(standing(await queries.read_fundings(session, member.tenant_id)), elsewhere_nano)
    return Member(member.tenant_id, member.name, member.charges, tuple(fundings))


def _dates(today: date, cut_off_at: datetime, first_day: date | None, *, is_month: bool) -> Dates:
    period_to = (cut_off_at - timedelta(microseconds=1)).date()
    if is_month:
        return Dates(today, period_to.replace(day=1), period_to)
    return Dates(today, min(first_day or period_to, period_to), period_to)


async def _insert_cuts(session: AsyncSession, draft: Draft) -> dict[UUID, UUID]:
    cuts = {}
    for tenant_id, posted in draft.posted.items():
        cut = InvoiceCut(
            id=new_id(),
            tenant_id=tenant_id,
            cut_off_at=draft.cut_off_at,
            charged_nano=sum(one.charged_nano for one in posted),
        )
        await queries.insert_cut(session, cut, [one.id for one in posted])
        cuts[tenant_id] = cut.id
    return cuts


async def _issue(
    session: AsyncSession, draft: Draft, invoice: PlannedInvoice, cuts: dict[UUID, UUID], run_id: UUID | None
) -> Issued:
    group, invoice_id = draft.group, InvoiceId(new_id())
    postings = {part.tenant_id: _posting(group, part, draft.minor_nano) for part in invoice.parts}
    to_post = [posting for posting in postings.values() if posting is not None]
    await ledger.post(session, to_post)
    for posting in to_post:
        if posting.tenant_id is not None and posting.funds_nano:
            await budgets.add_funds(session, posting.tenant_id, posting.funds_nano)
    series = series_of(DocumentKind.INVOICE, draft.dates.issued_on)
    ordinal = await queries.take_ordinal(session, group.seller.id, series)
    number = number_of(series, ordinal)
    content = content_of(invoice, group, draft.dates, number=number, minor_nano=draft.minor_nano)
    document = Invoice(
        id=invoice_id,
        kind=DocumentKind.INVOICE,
        legal_entity_id=group.seller.id,
        tenant_id=group.payer.id,
        currency=content.currency,
        minor_digits=content.minor_digits,
        series=series,
        ordinal=ordinal,
        number=number,
        issued_on=content.issued_on,
        due_on=content.due_on,
        cut_off_at=draft.cut_off_at,
        period_from=content.period_from,
        period_to=content.period_to,
        net_minor=content.net_minor,
        tax_minor=content.tax_minor,
        gross_minor=content.gross_minor,
        paid_minor=content.paid_minor,
        project_id=invoice.project_id,
        run_id=run_id,
        content=to_builtins(content),
    )
    ids = {tenant_id: posting.id for tenant_id, posting in postings.items() if posting is not None}
    parts = [_part(invoice_id, part, cuts[part.tenant_id], ids.get(part.tenant_id)) for part in invoice.parts]
    await queries.insert_document(session, document, parts)
    await queries.insert_used(
        session,
        [one for part in invoice.parts for one in _used(invoice_id, part, draft.minor_nano)],
        [one for part in invoice.parts for one in _paid(invoice_id, part, ids, draft.minor_nano)],
    )
    return Issued(invoice_id, number)


def _posting(group: Group, part: PlannedPart, minor_nano: int) -> Posting | None:
    """What is owed, out of the charges that it takes off the tenant's funds; deposits pay it at once."""
    paid_nano = part.paid_minor * minor_nano
    lines = (
        Line(_account(group, AccountKind.RECEIVABLE, part.tenant_id), -part.gross_minor * minor_nano),
        Line(_account(group, AccountKind.RECEIVABLE, part.tenant_id), paid_nano),
        Line(
            _account(group, AccountKind.TENANT_FUNDS, part.tenant_id),
            part.net_minor * minor_nano - part.rounding_nano - paid_nano,
        ),
        Line(_account(group, AccountKind.VAT_PAYABLE), part.tax_minor * minor_nano),
        Line(_account(group, AccountKind.ROUNDING), part.rounding_nano),
    )
    moving = tuple(line for line in lines if line.amount_nano)
    if not moving:
        return None
    return Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.INVOICE,
        tenant_id=TenantId(part.tenant_id),
        currency=group.seller.currency,
        lines=moving,
    )


def _part(invoice_id: UUID, part: PlannedPart, cut_id: UUID, transaction_id: UUID | None) -> InvoicePart:
    return InvoicePart(
        invoice_id=invoice_id,
        tenant_id=part.tenant_id,
        cut_id=cut_id,
        transaction_id=transaction_id,
        charged_nano=part.charged_nano,
        rounding_nano=part.rounding_nano,
        lines_minor=part.lines_minor,
        gifts_minor=part.gifts_minor,
        advances_minor=part.advances_minor,
        net_minor=part.net_minor,
        tax_minor=part.tax_minor,
        gross_minor=part.gross_minor,
    )


def _used(invoice_id: UUID, part: PlannedPart, minor_nano: int) -> list[InvoiceFunding]:
    return [
        InvoiceFunding(
            id=new_id(),
            invoice_id=invoice_id,
            tenant_id=part.tenant_id,
            funding_id=taken.funding.id,
            amount_nano=taken.minor * minor_nano,
        )
        for taken in (*part.gifts, *part.advances, *part.deposits)
    ]


def _paid(
    invoice_id: UUID, part: PlannedPart, transactions: Mapping[UUID, UUID], minor_nano: int
) -> list[InvoiceSettlement]:
    if not part.paid_minor:
        return []
    return [
        InvoiceSettlement(
            id=new_id(),
            invoice_id=invoice_id,
            tenant_id=part.tenant_id,
            transaction_id=transactions[part.tenant_id],
            kind=SettlementKind.DEPOSIT,
            amount_nano=part.paid_minor * minor_nano,
        )
    ]


def _account(group: Group, kind: AccountKind, tenant_id: UUID | None = None) -> Account:
    return Account(
        kind,
        group.seller.currency,
        LegalEntityId(group.seller.id),
        tenant_id=None if tenant_id is None else TenantId(tenant_id),
    )
