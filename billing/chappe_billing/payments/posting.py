"""How payments are posted. Everything here locks the tenant's budget, in a transaction of the operator's role."""

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.funds import once
from chappe_billing.funds import queries as funds
from chappe_billing.funds import service as moving
from chappe_billing.funds.moving import most_refundable, split_gross
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, Rail, TransactionKind
from chappe_billing.payments.amounts import nano_per_minor
from chappe_billing.payments.models import Method, Payment, Purpose
from chappe_billing.payments.settling import settle
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import LegalEntityId, TenantId

RAILS: Mapping[Method, Rail] = {
    Method.CARD: Rail.CARD,
    Method.SEPA_DEBIT: Rail.DIRECT_DEBIT,
    Method.BANK_TRANSFER: Rail.BANK_TRANSFER,
}


class Credited(Struct, frozen=True):
    """`over_nano` is what an invoice's payment brought beyond what was open: it is the payer's credit."""

    transaction_id: UUID
    over_nano: int = 0


def reference_of(intent_id: str) -> str:
    """Under which the money of an intent is booked."""
    return f"stripe {intent_id}"


async def credit(session: AsyncSession, payment: Payment, *, intent_id: str, method: Method) -> Credited:
    """Post the money that came, once for each intent. An invoice's settles the invoice."""
    reference, rail = reference_of(intent_id), RAILS[method]
    if payment.purpose == Purpose.INVOICE and payment.invoice_id is not None:
        gross_nano = payment.gross_minor * nano_per_minor(payment.currency)
        settled = await settle(session, payment.invoice_id, amount_nano=gross_nano, reference=reference, rail=rail)
        return Credited(settled.transactions[0], settled.over_nano)
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
    return Credited((repeat or await moving.post_to_tenant(session, posting)).transaction_id)


class TakenBack(Struct, frozen=True):
    transaction_id: UUID
    net_nano: int


async def take_back(
    session: AsyncSession, payment: Payment, kind: TransactionKind, gross_nano: int, *, reference: str, reason: str
) -> TakenBack:
    """Take `gross_nano` of a credited top-up out of the books again, net from the tenant's funds and its tax with it.
    A chargeback may leave debt. Raises `Invalid` for more than there is, as `move_funds` does."""
    if payment.transaction_id is None:
        raise Invalid("this payment brought no money", code="not_paid", param="payment")
    left = await funds.read_left(session, payment.transaction_id)
    part = split_gross(gross_nano, left_net_nano=left.net_nano, left_tax_nano=left.tax_nano)
    asked = moving.Movement(
        kind=kind,
        amount_nano=part.net_nano,
        tax_nano=part.tax_nano,
        reference=reference,
        reason=reason,
        rail=RAILS[Method(payment.method)],
        payment=payment.transaction_id,
    )
    moved = await moving.move_funds(session, TenantId(payment.tenant_id), asked)
    return TakenBack(moved.transaction_id, part.net_nano)


async def left_of(session: AsyncSession, payment: Payment) -> int:
    """What is left of a credited top-up, with its tax."""
    if payment.transaction_id is None:
        return 0
    left = await funds.read_left(session, payment.transaction_id)
    return max(0, left.net_nano) + max(0, left.tax_nano)


async def refundable_of(session: AsyncSession, payment: Payment) -> int:
    """Of a credited top-up, what is left and no invoice has used, with its tax. Under the budget's lock it stays so."""
    if payment.transaction_id is None:
        return 0
    left = await funds.read_left(session, payment.transaction_id)
    used_nano = await funds.read_used(session, payment.transaction_id)
    return most_refundable(left_net_nano=left.net_nano, left_tax_nano=left.tax_nano, used_nano=used_nano)


async def give_back(
    session: AsyncSession, tenant_id: TenantId, transaction_id: UUID, *, reference: str, reason: str
) -> UUID:
    """Undo what `take_back` did: the whole of it, once."""
    moved = await moving.reverse(session, tenant_id, transaction_id, reference=reference, reason=reason)
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
