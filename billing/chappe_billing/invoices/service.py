"""What settles issued invoices: payments, what takes them back, and what is given up.

As the operator, in the caller's transaction, once for each reference. All of it locks the budgets of the tenants that
are on the invoice, and raises `NotFound` for what is no invoice, `Invalid` for an amount that there is not, and
`Conflict` (`reference_taken`) when the reference stands for something else.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budget_queries
from chappe_billing.documents.content import DocumentKind
from chappe_billing.funds import once
from chappe_billing.funds import queries as posted
from chappe_billing.funds.moving import MAX_AMOUNT_NANO
from chappe_billing.invoices import queries
from chappe_billing.invoices.models import InvoiceSettlement, SettlementKind
from chappe_billing.invoices.queries import InvoiceHead, OpenPart
from chappe_billing.invoices.settling import (
    Allocated,
    Asked,
    account_of,
    allocate,
    postings,
    references,
    tax_within,
)
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import AccountKind, Line, Posting, Rail, TransactionKind
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import LedgerTransactionId, TenantId, new_id
from chappe_kernel.money import format_nano

_MAX_REFERENCE_LENGTH = once.MAX_REFERENCE_LENGTH - 10
"""Leaves room for the number that the second and later transactions have behind it."""


class Settled(Struct, frozen=True):
    """What a payment did: `settled_nano` of it went to the invoice, of which `open_nano` is left, and `over_nano` to
    the payer's funds; both are negative when it was taken back. `transactions` is one for each tenant that it was for.
    """

    transactions: tuple[LedgerTransactionId, ...]
    settled_nano: int
    over_nano: int
    open_nano: int
    repeated: bool


class _Traces(Struct, frozen=True):
    """What would show that something was posted before: its references, the account on the other side, and what it
    names."""

    references: Sequence[str]
    counter: AccountKind
    reverses: set[UUID]


async def settle_invoice(
    session: AsyncSession, invoice_id: UUID, *, amount_nano: int, reference: str, rail: Rail
) -> Settled:
    """A payment of an invoice came in, of a part of it, or of more: the rest is the payer's, as an untaxed deposit."""
    asked = Asked(
        kind=TransactionKind.PAYMENT, amount_nano=amount_nano, reference=_clean_reference(reference), rail=rail
    )
    if not 0 < amount_nano <= MAX_AMOUNT_NANO:
        raise Invalid("an amount is over 0 and at most a billion", code="invalid_amount", param="amount")
    return await _settle(session, invoice_id, asked, AccountKind.PAYMENT_CLEARING)


async def write_off_invoice(
    session: AsyncSession,
    invoice_id: UUID,
    *,
    amount_nano: int | None = None,
    reference: str,
    reason: str,
    reclaims_tax: bool = False,
) -> Settled:
    """Give up what is open of an invoice, or `amount_nano` of that: the operator's loss. With `reclaims_tax` the tax in
    it is none of that, and leaves what is owed to the tax office: whether the seller's law allows that is the caller's
    word (Directive 2006/112, article 90)."""
    asked = Asked(
        kind=TransactionKind.WRITE_OFF,
        amount_nano=amount_nano,
        reference=_clean_reference(reference),
        reason=once.clean_reason(reason),
        reclaims_tax=reclaims_tax,
    )
    return await _settle(session, invoice_id, asked, AccountKind.WRITE_OFF)


async def take_back_write_off(
    session: AsyncSession, transaction_id: UUID, *, reference: str, reason: str
) -> once.Moved | None:
    """The invoice is open again by what this transaction gave up, and its tax owed as it was: before the money that
    came after all is booked. None, and nothing done, for a transaction that gave up no invoice. Raises `Conflict`
    (`already_reversed`, `reference_taken`)."""
    given_up = await queries.find_given_up(session, transaction_id)
    found = None if given_up is None else await posted.find_posted(session, transaction_id)
    if given_up is None or found is None:
        return None
    head, _ = await lock_invoice(session, given_up)
    posting = Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.REVERSAL,
        tenant_id=None if found.tenant_id is None else TenantId(found.tenant_id),
        currency=found.currency,
        lines=once.opposite(await posted.read_lines(session, transaction_id)),
        reference=once.clean_reference(reference),
        reason=once.clean_reason(reason),
        reverses=LedgerTransactionId(transaction_id),
    )
    repeat = await once.find_repeat(session, posting)
    if repeat is not None:
        return repeat
    if await posted.is_reversed(session, transaction_id):
        raise Conflict("this transaction is taken back already", code="already_reversed")
    await _post(session, head, [posting], SettlementKind.RECLAIMED)
    return once.Moved(posting.id, repeated=False)


async def _settle(session: AsyncSession, invoice_id: UUID, asked: Asked, counter: AccountKind) -> Settled:
    head, parts = await lock_invoice(session, invoice_id)
    names = references(asked.reference, len(parts) + 1)
    # A write-off's loss is less than what it settles if the tax was none; a payment may settle less than came in.
    traced = AccountKind.RECEIVABLE if asked.kind is TransactionKind.WRITE_OFF else counter
    repeat = await _find_repeat(
        session, head, asked, _Traces(names, traced, {part.transaction_id for part in parts if part.transaction_id})
    )
    if repeat is not None:
        return repeat
    open_nano = sum(part.open_nano for part in parts)
    amount_nano = open_nano if asked.amount_nano is None else asked.amount_nano
    allocated = allocate(parts, amount_nano)
    if asked.kind is TransactionKind.WRITE_OFF and not 0 < amount_nano <= open_nano:
        raise Invalid(f"{format_nano(open_nano)} of the invoice is open", code="amount_too_large", param="amount")
    if asked.reclaims_tax:
        allocated = await _with_taxes(session, invoice_id, parts, allocated)
    made = postings(head, parts, allocated, asked, counter)
    await _post(session, head, made, SettlementKind(asked.kind))
    settled_nano = amount_nano - allocated.over_nano
    ids = tuple(posting.id for posting in made)
    return Settled(ids, settled_nano, allocated.over_nano, open_nano - settled_nano, repeated=False)


async def take_back_payment(
    session: AsyncSession, transaction_id: UUID, *, amount_nano: int, reference: str, reason: str
) -> Settled:
    """The bank took a payment of an invoice back, or a part of it: the invoice is open again by as much. What of the
    payment had gone to the payer's funds leaves them last. `transaction_id` is the payment's."""
    payment = await posted.find_posted(session, transaction_id)
    if payment is None or payment.kind is not TransactionKind.PAYMENT or payment.tenant_id is None:
        raise NotFound("no such payment of an invoice")
    invoice_id = await queries.find_paid_invoice(session, transaction_id)
    if invoice_id is None:
        raise NotFound("no such payment of an invoice")
    head, parts = await lock_invoice(session, invoice_id)
    asked = Asked(
        kind=TransactionKind.CHARGEBACK,
        amount_nano=amount_nano,
        reference=_clean_reference(reference),
        reason=once.clean_reason(reason),
    )
    clearing = AccountKind.PAYMENT_CLEARING
    repeat = await _find_repeat(session, head, asked, _Traces([asked.reference], clearing, {transaction_id}))
    if repeat is not None:
        return repeat
    on_invoice = await queries.sum_left(session, transaction_id, AccountKind.RECEIVABLE)
    in_funds = await queries.sum_left(session, transaction_id, AccountKind.TENANT_FUNDS)
    if not 0 < amount_nano <= on_invoice + in_funds:
        left = format_nano(on_invoice + in_funds)
        raise Invalid(f"{left} of the payment is left", code="amount_too_large", param="amount")
    tenant_id = TenantId(payment.tenant_id)
    reopened = min(amount_nano, on_invoice)
    lines = (
        Line(account_of(head, AccountKind.RECEIVABLE, tenant_id), -reopened),
        Line(account_of(head, AccountKind.TENANT_FUNDS, tenant_id), reopened - amount_nano),
        Line(account_of(head, clearing), amount_nano),
    )
    posting = Posting(
        id=ledger.new_transaction_id(),
        kind=asked.kind,
        tenant_id=tenant_id,
        currency=head.currency,
        lines=tuple(line for line in lines if line.amount_nano),
        reference=asked.reference,
        reason=asked.reason,
        reverses=LedgerTransactionId(transaction_id),
    )
    await _post(session, head, [posting], SettlementKind.REOPENED)
    open_nano = sum(part.open_nano for part in parts) + reopened
    return Settled((posting.id,), -reopened, reopened - amount_nano, open_nano, repeated=False)


async def lock_invoice(session: AsyncSession, invoice_id: UUID) -> tuple[InvoiceHead, list[OpenPart]]:
    """With the budgets of the tenants that are on it, in the order of all. Raises `NotFound` for what is no invoice."""
    head = await queries.find_head(session, invoice_id)
    if head is None or head.kind is not DocumentKind.INVOICE:
        raise NotFound("no such invoice")
    tenants = await queries.list_part_tenants(session, invoice_id)
    # Who frees what expired grants left is the gateways' role: here nothing depends on that.
    await budget_queries.lock_budgets(session, {*tenants, head.tenant_id})
    return head, await queries.read_open_parts(session, invoice_id)


async def _with_taxes(
    session: AsyncSession, invoice_id: UUID, parts: Sequence[OpenPart], allocated: Allocated
) -> Allocated:
    left = await queries.read_left_of_parts(session, invoice_id)
    taxes = [
        tax_within(amount, gross_nano=left[part.tenant_id].gross_nano, tax_nano=left[part.tenant_id].tax_nano)
        for part, amount in zip(parts, allocated.amounts, strict=True)
    ]
    return msgspec.structs.replace(allocated, taxes=tuple(taxes))


async def _find_repeat(session: AsyncSession, head: InvoiceHead, asked: Asked, traces: _Traces) -> Settled | None:
    await posted.lock_reference(session, head.legal_entity_id, asked.reference)
    known = await queries.find_by_references(session, head.legal_entity_id, traces.references, traces.counter)
    if not known:
        return None
    is_same = all(
        one.kind is asked.kind
        and (one.reverses in traces.reverses or (one.reverses is None and one.tenant_id == head.tenant_id))
        for one in known
    )
    ids = tuple(LedgerTransactionId(one.id) for one in known)
    amount_nano = abs(sum(one.amount_nano for one in known))
    is_same = is_same and asked.amount_nano in {None, amount_nano}
    if is_same and asked.kind is TransactionKind.WRITE_OFF:
        was_reclaimed = await queries.sum_on(session, ids, AccountKind.VAT_PAYABLE) != 0
        # Where there is no tax, saying that it is taken back says nothing.
        is_same = was_reclaimed == (asked.reclaims_tax and await queries.has_tax(session, head.id))
    if not is_same:
        raise Conflict("this reference stands for something else", code="reference_taken", param="reference")
    settled_nano = await queries.sum_settled_by(session, ids)
    parts = await queries.read_open_parts(session, head.id)
    over_nano = (-amount_nano if asked.kind is TransactionKind.CHARGEBACK else amount_nano) - settled_nano
    return Settled(ids, settled_nano, over_nano, sum(part.open_nano for part in parts), repeated=True)


async def _post(session: AsyncSession, head: InvoiceHead, made: Sequence[Posting], kind: SettlementKind) -> None:
    """With the allocation to the invoice's parts, and what it does to the budgets, which are locked."""
    await ledger.post(session, made)
    settlements = []
    for posting in made:
        if posting.tenant_id is not None and posting.funds_nano:
            await budget_queries.add_funds(session, posting.tenant_id, posting.funds_nano)
        settled = sum(line.amount_nano for line in posting.lines if line.account.kind is AccountKind.RECEIVABLE)
        if settled:
            settlements.append(
                InvoiceSettlement(
                    id=new_id(),
                    invoice_id=head.id,
                    tenant_id=posting.tenant_id,
                    transaction_id=posting.id,
                    kind=kind,
                    amount_nano=settled,
                )
            )
    await queries.insert_settlements(session, settlements)


def _clean_reference(reference: str) -> str:
    kept = once.clean_reference(reference)
    if len(kept) > _MAX_REFERENCE_LENGTH:
        raise Invalid(f"at most {_MAX_REFERENCE_LENGTH} characters", code="invalid_reference", param="reference")
    return kept
