"""Moving a tenant's funds by hand: as the operator, in the caller's transaction, once for each reference."""

from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.balance.queries import read_balance
from chappe_billing.budgets import queries as budgets
from chappe_billing.budgets.queries import LockedBudget
from chappe_billing.funds import once, queries
from chappe_billing.funds.moving import REVERSIBLE, WAYS, Standing, check_amount, lines_of, tax_with, unused_of
from chappe_billing.funds.once import Moved
from chappe_billing.funds.queries import Left
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Posting, Rail, TransactionKind
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import LedgerTransactionId, TenantId
from chappe_store.session import TenantScope

_TOO_MUCH_TAX = "there is not so much tax left of the payment"
_WITHOUT_REASON = frozenset({TransactionKind.TOP_UP})


class Movement(Struct, frozen=True, kw_only=True):
    """What somebody wants to happen to a tenant's funds.

    `reference` is the world's name for it (a bank statement's line, a ticket): a repeat with the same one changes
    nothing. `payment` is the top-up that a refund or a chargeback takes back: with its tax, in proportion, or with just
    `tax_nano`.
    """

    kind: TransactionKind
    amount_nano: int
    reference: str
    reason: str | None = None
    rail: Rail | None = None
    payment: UUID | None = None
    tax_nano: int | None = None


async def move_funds(session: AsyncSession, tenant_id: TenantId, asked: Movement) -> Moved:
    """Post what is asked for; locks the tenant's budget. A chargeback may leave debt: then nothing more is admitted.

    Raises `NotFound` for a tenant without a budget and for an unknown payment, `Conflict` (`reference_taken`) when the
    reference stands for something else, and `Invalid` for an amount that there is not; what an invoice has used of a
    payment is not refunded.
    """
    if asked.kind not in WAYS:
        raise Invalid(f"funds are not moved by a {asked.kind}", param="kind")
    reference, reason = _clean(asked.kind, asked.reference, asked.reason)
    budget = await _lock(session, tenant_id)
    left = await _left_of_payment(session, tenant_id, asked)
    tax_nano = _tax_of(asked, left)
    posting = Posting(
        id=ledger.new_transaction_id(),
        kind=asked.kind,
        tenant_id=tenant_id,
        currency=budget.currency,
        lines=lines_of(
            asked.kind, asked.amount_nano, budget.currency, budget.legal_entity_id, tenant_id, tax_nano=tax_nano
        ),
        reference=reference,
        reason=reason,
        rail=asked.rail,
        reverses=None if asked.payment is None else LedgerTransactionId(asked.payment),
    )
    repeat = await once.find_repeat(session, posting, by_funds=left is not None)
    if repeat is not None:
        return repeat
    rest = await _rest_of_payment(session, asked, left)
    taxed = left is not None and left.tax_nano > 0
    check_amount(asked.kind, asked.amount_nano, await _standing(session, budget, rest, taxed=taxed))
    if rest is not None and tax_nano > max(0, rest.tax_nano):
        raise Invalid(_TOO_MUCH_TAX, code="amount_too_large", param="amount")
    return await post_to_tenant(session, posting)


async def reverse(
    session: AsyncSession, tenant_id: TenantId, transaction_id: UUID, *, reference: str, reason: str
) -> Moved:
    """Take back the whole of a tenant's transaction, which stays as it is; locks the budget. It may leave debt.

    Raises `NotFound`, `Conflict` when anything takes it back already or the reference is taken, and `Invalid` for a
    kind that is not reversed so, or for what settles an invoice.
    """
    found = await queries.find_posted(session, transaction_id)
    if found is None or found.tenant_id != tenant_id:
        raise NotFound("the tenant has no such transaction")
    if found.kind not in REVERSIBLE or await queries.settles_invoice(session, transaction_id):
        raise Invalid(f"a {found.kind} is not reversed as a whole", code="not_reversible")
    kind = TransactionKind.REVERSAL
    reference, kept_reason = _clean(kind, reference, reason)
    await _lock(session, tenant_id)
    posting = Posting(
        id=ledger.new_transaction_id(),
        kind=kind,
        tenant_id=tenant_id,
        currency=found.currency,
        lines=once.opposite(await queries.read_lines(session, transaction_id)),
        reference=reference,
        reason=kept_reason,
        reverses=LedgerTransactionId(transaction_id),
    )
    repeat = await once.find_repeat(session, posting)
    if repeat is not None:
        return repeat
    if await queries.is_reversed(session, transaction_id):
        raise Conflict("this transaction is taken back already", code="already_reversed")
    return await post_to_tenant(session, posting)


async def post_to_tenant(session: AsyncSession, posting: Posting) -> Moved:
    """With what it does to the tenant's budget, which the caller has locked."""
    if posting.tenant_id is not None:
        await budgets.add_funds(session, posting.tenant_id, posting.funds_nano)
    return await once.post(session, posting)


async def _lock(session: AsyncSession, tenant_id: TenantId) -> LockedBudget:
    budget = (await budgets.lock_budgets(session, [tenant_id])).get(tenant_id)
    if budget is None:
        raise NotFound("no such tenant")
    return budget


async def _standing(session: AsyncSession, budget: LockedBudget, rest: Left | None, *, taxed: bool) -> Standing:
    # Grants that expired are free, though the operator's role is not the one that closes them.
    balance = await read_balance(session, TenantScope(TenantId(budget.tenant_id)))
    return Standing(
        free_nano=max(0, balance.available_nano - balance.pending_nano),
        # What is owed by invoices is given up by them: their settlements say so, and nothing is given up twice.
        debt_nano=max(0, -balance.available_nano - await queries.sum_invoiced(session, TenantId(budget.tenant_id))),
        # What was taxed goes back by its payment, with its tax.
        paid_in_nano=await queries.sum_paid_in(session, TenantId(budget.tenant_id), taxed=taxed),
        payment_rest_nano=None if rest is None else rest.net_nano,
    )


def _tax_of(asked: Movement, left: Left | None) -> int:
    if left is None:
        return 0
    if asked.tax_nano is None:
        return tax_with(asked.amount_nano, left_net_nano=left.net_nano, left_tax_nano=left.tax_nano)
    if not 0 <= asked.tax_nano <= max(0, left.tax_nano):
        raise Invalid(_TOO_MUCH_TAX, code="amount_too_large", param="amount")
    return asked.tax_nano


async def _left_of_payment(session: AsyncSession, tenant_id: TenantId, asked: Movement) -> Left | None:
    if asked.payment is None:
        if WAYS[asked.kind].needs_payment:
            raise Invalid("a chargeback names the payment that the bank took back", param="payment")
        return None
    if asked.kind not in {TransactionKind.REFUND, TransactionKind.CHARGEBACK}:
        raise Invalid(f"a {asked.kind} takes back no payment", param="payment")
    payment = await queries.find_posted(session, asked.payment)
    if payment is None or (payment.kind, payment.tenant_id) != (TransactionKind.TOP_UP, tenant_id):
        raise NotFound("the tenant has no such payment", param="payment")
    return await queries.read_left(session, asked.payment)


async def _rest_of_payment(session: AsyncSession, asked: Movement, left: Left | None) -> Left | None:
    """What may be taken back of it: by the bank all that is left, by a refund what no invoice has used."""
    if left is None or asked.payment is None or asked.kind is not TransactionKind.REFUND:
        return left
    used_nano = await queries.read_used(session, asked.payment)
    part = unused_of(left_net_nano=left.net_nano, left_tax_nano=left.tax_nano, used_nano=used_nano)
    return Left(part.net_nano, part.tax_nano)


def _clean(kind: TransactionKind, reference: str, reason: str | None) -> tuple[str, str | None]:
    kept = None if reason is None else once.clean_reason(reason)
    if kept is None and kind not in _WITHOUT_REASON:
        raise Invalid(f"a {kind} needs a reason", param="reason")
    return once.clean_reference(reference), kept
