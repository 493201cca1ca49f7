"""How payments are posted. Everything here locks the tenant's budget, in a transaction of the operator's role."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.funds import once
from chappe_billing.funds import queries as funds
from chappe_billing.funds import service as moving
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, Rail, TransactionKind
from chappe_billing.payments.amounts import nano_per_minor
from chappe_billing.payments.models import Method, Payment, Purpose
from chappe_billing.payments.settling import settle
from chappe_kernel.ids import LedgerTransactionId, LegalEntityId, TenantId

RAILS: Mapping[Method, Rail] = {
    Method.CARD: Rail.CARD,
    Method.SEPA_DEBIT: Rail.DIRECT_DEBIT,
    Method.BANK_TRANSFER: Rail.BANK_TRANSFER,
}


async def credit(session: AsyncSession, payment: Payment, *, intent_id: str, method: Method) -> UUID:
    """Post the money that came, once for each intent; the transaction. An invoice's settles the invoice."""
    reference, rail = f"stripe {intent_id}", RAILS[method]
    if payment.purpose == Purpose.INVOICE and payment.invoice_id is not None:
        gross_nano = payment.gross_minor * nano_per_minor(payment.currency)
        return await settle(session, payment.invoice_id, amount_nano=gross_nano, reference=reference, rail=rail)
    posting = Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.TOP_UP,
        tenant_id=TenantId(payment.tenant_id),
        currency=payment.currency,
        lines=_lines_of(payment),
        reference=reference,
        rail=rail,
    )
    repeat = await once.find_repeat(session, posting)
    return (repeat or await moving.post_to_tenant(session, posting)).transaction_id


async def take_back(
    session: AsyncSession,
    payment: Payment,
    kind: TransactionKind,
    net_nano: int,
    *,
    reference: str,
    reason: str,
) -> tuple[UUID, int]:
    """Take `net_nano` of a credited top-up out of the funds again, with its part of the tax; the transaction, and what
    went back in all. A chargeback may leave debt. Raises `Invalid` for more than there is, as `move_funds` does."""
    asked = moving.Movement(
        kind=kind,
        amount_nano=net_nano,
        reference=reference,
        reason=reason,
        rail=RAILS[Method(payment.method)],
        payment=payment.transaction_id,
    )
    moved = await moving.move_funds(session, TenantId(payment.tenant_id), asked)
    lines = await funds.read_lines(session, moved.transaction_id)
    gross_nano = sum(line.amount_nano for line in lines if line.account.kind is AccountKind.PAYMENT_CLEARING)
    return moved.transaction_id, gross_nano


async def give_back(session: AsyncSession, tenant_id: TenantId, transaction_id: UUID, *, reference: str) -> UUID:
    """Undo what `take_back` did: the whole of it, once."""
    moved = await moving.undo(session, tenant_id, transaction_id, reference=reference, reason="not paid out")
    return moved.transaction_id


def _lines_of(payment: Payment) -> tuple[Line, ...]:
    entity_id, tenant_id = LegalEntityId(payment.legal_entity_id), TenantId(payment.tenant_id)
    funds_account = Account(AccountKind.TENANT_FUNDS, payment.currency, entity_id, tenant_id=tenant_id)
    lines = (
        Line(funds_account, payment.net_nano),
        Line(Account(AccountKind.PAYMENT_CLEARING, payment.currency, entity_id), -payment.net_nano - payment.tax_nano),
    )
    if payment.tax_nano == 0:
        return lines
    return (*lines, Line(Account(AccountKind.VAT_PAYABLE, payment.currency, entity_id), payment.tax_nano))



