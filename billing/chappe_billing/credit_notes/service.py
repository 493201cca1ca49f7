"""Taking an invoice back: as the operator, in the caller's transaction, once for each reference."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from msgspec import Struct, to_builtins
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budgets
from chappe_billing.credit_notes import queries
from chappe_billing.credit_notes.planning import (
    Amounts,
    Used,
    amounts_of_lines,
    chosen_lines,
    given_back,
    lines_left,
)
from chappe_billing.documents.content import (
    DocumentAllowance,
    DocumentContent,
    DocumentKind,
    DocumentLine,
    PaymentTerms,
    PrecedingDocument,
    TaxSubtotal,
)
from chappe_billing.funds import once
from chappe_billing.funds import queries as posted
from chappe_billing.invoices.models import (
    Invoice,
    InvoiceFunding,
    InvoicePart,
    InvoiceSettlement,
    SettlementKind,
)
from chappe_billing.invoices.queries import InvoiceHead, OpenPart
from chappe_billing.invoices.service import lock_invoice
from chappe_billing.invoices.settling import account_of, references
from chappe_billing.invoicing import queries as invoicing
from chappe_billing.invoicing.fundings import FundingKind, standing
from chappe_billing.invoicing.numbering import Issued, minor_nano_of, number_of, series_of
from chappe_billing.invoicing.wording import text
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import AccountKind, Line, Posting, TransactionKind
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import InvoiceId, LedgerTransactionId, new_id


class _Part(Struct, frozen=True):
    """What is taken back of one tenant's part."""

    open: OpenPart
    amounts: Amounts
    back: tuple[tuple[UUID, int], ...]
    minor_nano: int

    @property
    def settled_nano(self) -> int:
        """As much as is open; what was paid already goes to the tenant's funds."""
        return min(self.open.open_nano, self.amounts.gross_minor * self.minor_nano)


async def credit(
    session: AsyncSession, invoice_id: UUID, *, reference: str, reason: str, lines: Sequence[int] | None = None
) -> Issued:
    """Take back what is left of an invoice, or the charges on these of its lines (from 1) with their tax: what is open
    of it falls, what was paid goes to the payer's funds, advances and gifts are there again.

    Locks the budgets of the tenants on it. Raises `NotFound` for what is no invoice, `Conflict` (`already_credited`,
    `reference_taken`) and `Invalid`, also for some lines of a group's invoice: that one is taken back as a whole.
    """
    kept, why = once.clean_reference(reference), once.clean_reason(reason)
    head, open_parts = await lock_invoice(session, invoice_id)
    repeat = await _find_repeat(session, head, kept)
    if repeat is not None:
        return repeat
    content = await queries.read_content(session, invoice_id)
    notes = await queries.read_notes(session, invoice_id)
    rest = await queries.read_rest(session, invoice_id)
    minor_nano = minor_nano_of(head.currency)
    if all(amounts.lines_minor <= 0 for amounts in rest.values()):
        raise Conflict("nothing is left of this invoice", code="already_credited")
    taken_lines = lines_left(content, notes) if lines is None else chosen_lines(content, notes, lines)
    if lines is not None:
        rest = _of_lines(rest, taken_lines, content, minor_nano)
    parts = [
        await _part(session, head, part, rest[part.tenant_id], minor_nano)
        for part in open_parts
        if rest[part.tenant_id].lines_minor > 0
    ]
    names = references(kept, len(parts))
    postings = [_posting(head, part, name, why) for part, name in zip(parts, names, strict=True)]
    await ledger.post(session, postings)
    for posting in postings:
        if posting.tenant_id is not None and posting.funds_nano:
            await budgets.add_funds(session, posting.tenant_id, posting.funds_nano)
    return await _issue(session, head, parts, postings, _note(content, taken_lines, parts, why))


async def _find_repeat(session: AsyncSession, head: InvoiceHead, reference: str) -> Issued | None:
    await posted.lock_reference(session, head.legal_entity_id, reference)
    known = await posted.find_by_reference(session, head.legal_entity_id, reference)
    if known is None:
        return None
    note = await queries.find_note(session, known.id)
    if note is None or note[2] != head.id:
        raise Conflict("this reference stands for something else", code="reference_taken", param="reference")
    return Issued(InvoiceId(note[0]), note[1])


def _of_lines(
    rest: dict[UUID, Amounts], lines: Sequence[DocumentLine], content: DocumentContent, minor_nano: int
) -> dict[UUID, Amounts]:
    if len(rest) > 1:
        raise Invalid("a group's invoice is taken back as a whole", param="lines")
    rate_bp = content.taxes[0].treatment.rate_bp
    return {
        tenant_id: amounts_of_lines(amounts, lines, rate_bp=rate_bp, minor_nano=minor_nano)
        for tenant_id, amounts in rest.items()
    }


async def _part(session: AsyncSession, head: InvoiceHead, part: OpenPart, amounts: Amounts, minor_nano: int) -> _Part:
    kinds = {funding.id: funding.kind for funding in standing(await invoicing.read_fundings(session, part.tenant_id))}
    used = [
        Used(funding_id, kinds[funding_id], amount)
        for funding_id, amount in await queries.read_used(session, head.id, part.tenant_id)
    ]
    back = (
        *given_back(used, FundingKind.ADVANCE, amounts.advances_minor * minor_nano),
        *given_back(used, FundingKind.GIFT, amounts.gifts_minor * minor_nano),
    )
    return _Part(part, amounts, back, minor_nano)


def _posting(head: InvoiceHead, part: _Part, reference: str, reason: str) -> Posting:
    """Out of revenue and tax: less is owed, and what was paid or put in is the tenant's again."""
    amounts, nano = part.amounts, part.minor_nano
    tenant_id = part.open.tenant_id
    back_nano = (amounts.lines_minor + amounts.tax_minor) * nano - part.settled_nano
    lines = (
        Line(account_of(head, AccountKind.RECEIVABLE, tenant_id), part.settled_nano),
        Line(account_of(head, AccountKind.TENANT_FUNDS, tenant_id), back_nano),
        Line(account_of(head, AccountKind.REVENUE), -amounts.charged_nano),
        Line(account_of(head, AccountKind.ROUNDING), -amounts.rounding_nano),
        Line(account_of(head, AccountKind.VAT_PAYABLE), -amounts.tax_minor * nano),
    )
    invoiced = part.open.transaction_id
    return Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.CREDIT_NOTE,
        tenant_id=tenant_id,
        currency=head.currency,
        lines=tuple(line for line in lines if line.amount_nano),
        reference=reference,
        reason=reason,
        reverses=None if invoiced is None else LedgerTransactionId(invoiced),
    )


def _note(
    invoice: DocumentContent, lines: Sequence[DocumentLine], parts: Sequence[_Part], reason: str
) -> DocumentContent:
    """Without its number and date. In the sign of a credit note: what is taken back is positive."""
    treatment = invoice.taxes[0].treatment
    advances, gifts, net, tax = (
        sum(getattr(part.amounts, name) for part in parts)
        for name in ("advances_minor", "gifts_minor", "net_minor", "tax_minor")
    )
    deductions: list[tuple[str | None, str, int]] = [("advance", text(invoice.language, "advances"), advances)]
    deductions += [] if gifts > 0 else [(None, text(invoice.language, "gift_back"), gifts)]
    minor_nano = minor_nano_of(invoice.currency)
    deducted = [
        DocumentLine(
            description=name,
            component=component,
            quantity=-1 if minor > 0 else 1,
            unit_price_nano=abs(minor) * minor_nano,
            net_minor=-minor,
            treatment=treatment,
        )
        for component, name, minor in deductions
        if minor
    ]
    return msgspec.structs.replace(
        invoice,
        kind=DocumentKind.CREDIT_NOTE,
        due_on=None,
        preceding=(PrecedingDocument(invoice.number, invoice.issued_on),),
        lines=(*lines, *deducted),
        allowances=(DocumentAllowance(text(invoice.language, "gift"), gifts, treatment),) if gifts > 0 else (),
        taxes=(TaxSubtotal(treatment, net, tax),),
        net_minor=net,
        tax_minor=tax,
        gross_minor=net + tax,
        paid_minor=0,
        due_minor=net + tax,
        payment=PaymentTerms(),
        note=reason,
    )


async def _issue(
    session: AsyncSession,
    head: InvoiceHead,
    parts: Sequence[_Part],
    postings: Sequence[Posting],
    note: DocumentContent,
) -> Issued:
    ids = {part.open.tenant_id: posting.id for part, posting in zip(parts, postings, strict=True)}
    rows = [
        InvoicePart(
            tenant_id=part.open.tenant_id,
            transaction_id=ids[part.open.tenant_id],
            gross_minor=part.amounts.gross_minor,
            **{name: getattr(part.amounts, name) for name in Amounts.__struct_fields__},
        )
        for part in parts
    ]
    issued = await issue_note(session, head, note, rows)
    used = [
        InvoiceFunding(
            id=new_id(),
            invoice_id=issued.id,
            tenant_id=part.open.tenant_id,
            funding_id=funding_id,
            amount_nano=-amount_nano,
        )
        for part in parts
        for funding_id, amount_nano in part.back
    ]
    settlements = [
        InvoiceSettlement(
            id=new_id(),
            invoice_id=head.id,
            tenant_id=part.open.tenant_id,
            transaction_id=ids[part.open.tenant_id],
            kind=SettlementKind.CREDIT_NOTE,
            amount_nano=part.settled_nano,
        )
        for part in parts
        if part.settled_nano
    ]
    await invoicing.insert_used(session, used, settlements)
    return issued


async def issue_note(
    session: AsyncSession,
    preceding: InvoiceHead,
    note: DocumentContent,
    parts: Sequence[InvoicePart],
    *,
    source_id: UUID | None = None,
) -> Issued:
    """Number a credit note, date it, and keep it with its parts, whose `invoice_id` is filled in here."""
    invoice_id = InvoiceId(new_id())
    issued_on = await invoicing.read_today(session)
    series = series_of(DocumentKind.CREDIT_NOTE, issued_on)
    ordinal = await invoicing.take_ordinal(session, preceding.legal_entity_id, series)
    content = msgspec.structs.replace(note, number=number_of(series, ordinal), issued_on=issued_on)
    for part in parts:
        part.invoice_id = invoice_id
    document = Invoice(
        id=invoice_id,
        kind=DocumentKind.CREDIT_NOTE,
        legal_entity_id=preceding.legal_entity_id,
        tenant_id=preceding.tenant_id,
        currency=preceding.currency,
        minor_digits=preceding.minor_digits,
        series=series,
        ordinal=ordinal,
        number=content.number,
        issued_on=issued_on,
        period_from=content.period_from,
        period_to=content.period_to,
        net_minor=content.net_minor,
        tax_minor=content.tax_minor,
        gross_minor=content.gross_minor,
        preceding_id=preceding.id,
        source_id=source_id,
        reason=content.note,
        content=to_builtins(content),
    )
    await invoicing.insert_document(session, document, parts)
    return Issued(invoice_id, content.number)
