"""Payments that nobody can attribute: they come in, and become a tenant's top-up or go back. As the operator, in the
caller's transaction, once for each reference."""

from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budgets
from chappe_billing.funds import once
from chappe_billing.funds import queries as posted
from chappe_billing.funds.moving import MAX_AMOUNT_NANO
from chappe_billing.funds.once import Moved
from chappe_billing.funds.service import post_to_tenant
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, Rail, TransactionKind
from chappe_billing.suspense import queries
from chappe_billing.suspense.queries import Payment
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import LedgerTransactionId, LegalEntityId, TenantId
from chappe_kernel.money import format_nano
from chappe_tenants.legal_entities.service import get_entity


class Incoming(Struct, frozen=True, kw_only=True):
    """`reference` is the bank statement's line. `note` is what came with the money: a payer's name, a purpose."""

    legal_entity_id: UUID
    amount_nano: int
    reference: str
    rail: Rail
    note: str | None = None


class Part(Struct, frozen=True, kw_only=True):
    """What of a payment is decided about, under which name and why."""

    amount_nano: int
    reference: str
    reason: str


async def receive(session: AsyncSession, incoming: Incoming) -> Moved:
    """Book a payment without a tenant. Raises `NotFound` for an unknown legal entity, `Invalid` for an impossible
    amount, and `Conflict` (`reference_taken`) when the reference stands for something else."""
    _check_amount(incoming.amount_nano, MAX_AMOUNT_NANO)
    entity = await get_entity(session, incoming.legal_entity_id)
    posting = Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.SUSPENSE,
        tenant_id=None,
        currency=entity.currency,
        lines=(
            _suspense(entity.currency, LegalEntityId(entity.id), incoming.amount_nano),
            _clearing(entity.currency, LegalEntityId(entity.id), -incoming.amount_nano),
        ),
        reference=once.clean_reference(incoming.reference),
        reason=None if incoming.note is None else once.clean_reason(incoming.note, param="note"),
        rail=incoming.rail,
    )
    return await once.find_repeat(session, posting) or await once.post(session, posting)


async def assign(session: AsyncSession, payment_id: UUID, tenant_id: TenantId, part: Part) -> Moved:
    """Make a part of a payment a tenant's top-up that names it; locks the tenant's budget. A reversal of the top-up
    brings the part back here.

    Raises `NotFound`, `Conflict` when the tenant is another legal entity's customer or the reference stands for
    something else, and `Invalid` for more than is open.
    """
    budget = (await budgets.lock_budgets(session, [tenant_id])).get(tenant_id)
    if budget is None:
        raise NotFound("no such tenant", param="tenant_id")
    payment = await _lock(session, payment_id)
    if budget.legal_entity_id != payment.legal_entity_id:
        raise Conflict("the tenant is another legal entity's customer", code="other_legal_entity", param="tenant_id")
    entity = LegalEntityId(payment.legal_entity_id)
    funds = Account(AccountKind.TENANT_FUNDS, payment.currency, entity, tenant_id=tenant_id)
    posting = _settling(TransactionKind.TOP_UP, payment, part, Line(funds, part.amount_nano), tenant_id)
    return await _settle(session, payment, part, posting)


async def send_back(session: AsyncSession, payment_id: UUID, part: Part) -> Moved:
    """Book that a part of a payment went back to whoever sent it. Raises as `assign` does."""
    payment = await _lock(session, payment_id)
    to_bank = _clearing(payment.currency, LegalEntityId(payment.legal_entity_id), part.amount_nano)
    return await _settle(session, payment, part, _settling(TransactionKind.REFUND, payment, part, to_bank, None))


async def take_back(session: AsyncSession, transaction_id: UUID, *, reference: str, reason: str) -> tuple[Moved, UUID]:
    """Take the whole of a payment back, of which nothing is settled, or of its return: it was typed wrongly. With the
    payment's id.

    Raises `NotFound`, and `Conflict` when it is taken back already, settled, or the reference is taken.
    """
    found = await posted.find_posted(session, transaction_id)
    if found is None:
        raise _no_payment()
    is_payment = found.kind is TransactionKind.SUSPENSE
    is_return = found.kind is TransactionKind.REFUND and found.tenant_id is None
    if not (is_payment or is_return):
        raise _no_payment()
    payment = await _lock(session, transaction_id if is_payment else found.reverses or transaction_id)
    posting = Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.REVERSAL,
        tenant_id=None,
        currency=found.currency,
        lines=once.opposite(await posted.read_lines(session, transaction_id)),
        reference=once.clean_reference(reference),
        reason=once.clean_reason(reason),
        reverses=LedgerTransactionId(transaction_id),
    )
    repeat = await once.find_repeat(session, posting)
    if repeat is not None:
        return repeat, payment.id
    if is_payment and payment.open_nano < payment.amount_nano:
        raise Conflict("a part of this payment is settled, or it is taken back", code="payment_settled")
    if not is_payment and await posted.is_reversed(session, transaction_id):
        raise Conflict("this return is taken back already", code="already_reversed")
    return await once.post(session, posting), payment.id


async def get_payment(session: AsyncSession, payment_id: UUID) -> Payment:
    """Raises `NotFound`."""
    found = await queries.find_payment(session, payment_id)
    if found is None:
        raise _no_payment()
    return found


async def _lock(session: AsyncSession, payment_id: UUID) -> Payment:
    await queries.lock_payment(session, payment_id)
    return await get_payment(session, payment_id)


async def _settle(session: AsyncSession, payment: Payment, part: Part, posting: Posting) -> Moved:
    repeat = await once.find_repeat(session, posting)
    if repeat is not None:
        return repeat
    _check_amount(part.amount_nano, payment.open_nano)
    return await post_to_tenant(session, posting)


def _settling(
    kind: TransactionKind, payment: Payment, part: Part, whither: Line, tenant_id: TenantId | None
) -> Posting:
    return Posting(
        id=ledger.new_transaction_id(),
        kind=kind,
        tenant_id=tenant_id,
        currency=payment.currency,
        lines=(whither, _suspense(payment.currency, LegalEntityId(payment.legal_entity_id), -part.amount_nano)),
        reference=once.clean_reference(part.reference),
        reason=once.clean_reason(part.reason),
        rail=payment.rail,
        reverses=LedgerTransactionId(payment.id),
    )


def _suspense(currency: str, entity: LegalEntityId, amount_nano: int) -> Line:
    return Line(Account(AccountKind.SUSPENSE, currency, entity), amount_nano)


def _clearing(currency: str, entity: LegalEntityId, amount_nano: int) -> Line:
    return Line(Account(AccountKind.PAYMENT_CLEARING, currency, entity), amount_nano)


def _check_amount(amount_nano: int, bound_nano: int) -> None:
    if not 0 < amount_nano <= MAX_AMOUNT_NANO:
        raise Invalid("an amount is over 0 and at most a billion", code="invalid_amount", param="amount")
    if amount_nano > bound_nano:
        raise Invalid(f"of this payment {format_nano(bound_nano)} is open", code="amount_too_large", param="amount")


def _no_payment() -> NotFound:
    return NotFound("there is no such payment in suspense")
