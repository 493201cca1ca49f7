"""Documents of taxed payments on account: as the operator, each once."""

from uuid import UUID

import msgspec
import structlog
from msgspec import to_builtins
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.advances import queries
from chappe_billing.advances.queries import Taxed
from chappe_billing.budgets import queries as budgets
from chappe_billing.credit_notes.queries import read_content, read_rest
from chappe_billing.credit_notes.service import issue_note
from chappe_billing.documents.content import (
    DocumentContent,
    DocumentKind,
    DocumentLine,
    PaymentTerms,
    PrecedingDocument,
    TaxSubtotal,
)
from chappe_billing.invoices.models import Invoice, InvoicePart
from chappe_billing.invoicing import queries as invoicing
from chappe_billing.invoicing.describing import buyer_party, seller_party
from chappe_billing.invoicing.numbering import Issued, digits_of, minor_nano_of, number_of, series_of
from chappe_billing.invoicing.planning import half_up
from chappe_billing.invoicing.queries import Group
from chappe_billing.invoicing.wording import text
from chappe_billing.tax.service import treatment_of
from chappe_billing.tax.treatment import TaxTreatment
from chappe_kernel.errors import ChappeError, Conflict
from chappe_kernel.ids import InvoiceId, TenantId, new_id
from chappe_store.audit_log.origin import command_origin
from chappe_store.session import Database

_log = structlog.get_logger()


async def document_all(database: Database) -> int:
    """Issue what every tenant's taxed payments on account lack, a transaction for each tenant; how many documents. Any
    number of processes may do so side by side. What cannot be told yet (how it is taxed) is left for later."""
    async with database.audit() as session:
        tenants = await queries.find_tenants(session)
    issued = 0
    for tenant_id in tenants:
        try:
            async with database.operator(command_origin()) as session:
                await budgets.lock_budgets(session, [tenant_id])
                issued += len(await document_advances(session, tenant_id))
        except ChappeError as error:
            _log.warning("advance_left_for_later", tenant_id=str(tenant_id), code=error.code)
    return issued


async def document_advances(session: AsyncSession, tenant_id: UUID) -> list[Issued]:
    """What one tenant lacks, in the order in which it happened; its budget is locked. Raises `Conflict` as
    `invoicing.issue` does while seller, buyer or tax are unknown."""
    lacking = await queries.read_undocumented(session, tenant_id)
    if not lacking:
        return []
    group = await invoicing.find_group(session, tenant_id)
    if group is None:
        return []
    issued = []
    for taxed in lacking:
        if taxed.tax_nano > 0:
            issued.append(await _issue_advance(session, group, taxed))
        else:
            issued.append(await _take_back(session, group, taxed))
    return issued


async def _issue_advance(session: AsyncSession, group: Group, taxed: Taxed) -> Issued:
    minor_nano = minor_nano_of(group.seller.currency)
    today = await invoicing.read_today(session)
    received_on = taxed.created_at.date()
    treatment = await treatment_of(session, TenantId(taxed.tenant_id), received_on)
    series = series_of(DocumentKind.ADVANCE, today)
    ordinal = await invoicing.take_ordinal(session, group.seller.id, series)
    net, tax = half_up(taxed.net_nano, minor_nano), half_up(taxed.tax_nano, minor_nano)
    content = DocumentContent(
        kind=DocumentKind.ADVANCE,
        number=number_of(series, ordinal),
        language=group.profile.language,
        issued_on=today,
        period_from=received_on,
        period_to=received_on,
        currency=group.seller.currency,
        minor_digits=digits_of(minor_nano),
        seller=seller_party(group.seller),
        buyer=buyer_party(group.payer, group.profile),
        purchase_order=group.profile.purchase_order,
        buyer_reference=group.profile.buyer_reference,
        contract_reference=group.payer.contract_reference,
        lines=(_line(net, minor_nano, treatment, group.profile.language),),
        taxes=(TaxSubtotal(treatment, net, tax),),
        net_minor=net,
        tax_minor=tax,
        gross_minor=net + tax,
        paid_minor=net + tax,
        due_minor=0,
        payment=PaymentTerms(text=text(group.profile.language, "paid")),
    )
    document = Invoice(
        id=new_id(),
        kind=DocumentKind.ADVANCE,
        legal_entity_id=group.seller.id,
        tenant_id=taxed.tenant_id,
        currency=content.currency,
        minor_digits=content.minor_digits,
        series=series,
        ordinal=ordinal,
        number=content.number,
        issued_on=today,
        period_from=content.period_from,
        period_to=content.period_to,
        net_minor=net,
        tax_minor=tax,
        gross_minor=content.gross_minor,
        paid_minor=content.paid_minor,
        source_id=taxed.id,
        content=to_builtins(content),
    )
    part = _part(taxed, net, tax, taxed.net_nano, minor_nano)
    part.invoice_id = document.id
    await invoicing.insert_document(session, document, [part])
    return Issued(InvoiceId(document.id), content.number)


async def _take_back(session: AsyncSession, group: Group, taxed: Taxed) -> Issued:
    """A credit note of the nearest advance invoice that has as much left."""
    minor_nano = minor_nano_of(group.seller.currency)
    for source_id in taxed.chain:
        head = await queries.find_advance(session, source_id)
        if head is None:
            continue
        rest = (await read_rest(session, head.id))[taxed.tenant_id]
        net = min(rest.net_minor, half_up(-taxed.net_nano, minor_nano))
        tax = min(rest.tax_minor, half_up(-taxed.tax_nano, minor_nano))
        if net or tax:
            advance = await read_content(session, head.id)
            note = _note(advance, net, tax, minor_nano, taxed.reason or text(advance.language, "taken_back"))
            part = _part(taxed, net, tax, -taxed.net_nano, minor_nano)
            return await issue_note(session, head, note, [part], source_id=taxed.id)
    raise Conflict("what it takes back has no advance invoice", code="advance_unknown")


def _note(advance: DocumentContent, net: int, tax: int, minor_nano: int, reason: str) -> DocumentContent:
    treatment = advance.taxes[0].treatment
    return msgspec.structs.replace(
        advance,
        kind=DocumentKind.CREDIT_NOTE,
        preceding=(PrecedingDocument(advance.number, advance.issued_on),),
        lines=(_line(net, minor_nano, treatment, advance.language),),
        taxes=(TaxSubtotal(treatment, net, tax),),
        net_minor=net,
        tax_minor=tax,
        gross_minor=net + tax,
        paid_minor=0,
        due_minor=net + tax,
        payment=PaymentTerms(),
        note=reason,
    )


def _line(net: int, minor_nano: int, treatment: TaxTreatment, language: str) -> DocumentLine:
    return DocumentLine(
        description=text(language, "top_up"),
        component="top_up",
        quantity=1,
        unit_price_nano=net * minor_nano,
        net_minor=net,
        treatment=treatment,
    )


def _part(taxed: Taxed, net: int, tax: int, exact_nano: int, minor_nano: int) -> InvoicePart:
    return InvoicePart(
        tenant_id=taxed.tenant_id,
        charged_nano=exact_nano,
        rounding_nano=net * minor_nano - exact_nano,
        lines_minor=net,
        gifts_minor=0,
        advances_minor=0,
        net_minor=net,
        tax_minor=tax,
        gross_minor=net + tax,
    )
