"""Credit that the operator gives."""

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budgets
from chappe_billing.ledger import queries as ledger_queries
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, TransactionKind
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import TenantId
from chappe_kernel.money import NANO_PER_UNIT

MAX_CREDIT_LIMIT_NANO = 10**9 * NANO_PER_UNIT


async def give_welcome_credit(session: AsyncSession, tenant_id: TenantId, amount_nano: int, currency: str) -> None:
    """Open the tenant's budget, with a one-time gift in it. As the operator; safe to repeat: a tenant gets one gift.

    Raises `Invalid` for a negative amount, `Conflict` when the tenant's budget is in another currency.
    """
    if amount_nano < 0:
        raise Invalid("a credit cannot be negative", code="invalid_amount")
    await budgets.open_budget(session, tenant_id, currency)
    budget = (await budgets.lock_budgets(session, [tenant_id]))[tenant_id]
    if budget.currency != currency:
        raise Conflict(f"the tenant's budget is in {budget.currency}", code="currency_mismatch")
    if amount_nano == 0 or await ledger_queries.find_welcome_credit(session, tenant_id) is not None:
        return
    entity = budget.legal_entity_id
    posting = Posting(
        id=ledger.new_transaction_id(),
        kind=TransactionKind.WELCOME_CREDIT,
        tenant_id=tenant_id,
        currency=currency,
        lines=(
            Line(Account(AccountKind.TENANT_FUNDS, currency, entity, tenant_id=tenant_id), amount_nano),
            Line(Account(AccountKind.PROMOTIONAL_CREDIT, currency, entity), -amount_nano),
        ),
    )
    await ledger.post(session, [posting])
    await budgets.add_funds(session, tenant_id, amount_nano)


async def set_credit_limit(session: AsyncSession, tenant_id: TenantId, limit_nano: int, currency: str) -> None:
    """How far below zero the tenant's funds may fall. As the operator; opens the budget if there is none.

    A limit below what is spent already takes nothing back: nothing more is admitted. Raises `Invalid` for an amount
    that no limit can be.
    """
    if not 0 <= limit_nano <= MAX_CREDIT_LIMIT_NANO:
        raise Invalid("a credit limit is between 0 and a billion", code="invalid_amount", param="credit_limit")
    await budgets.open_budget(session, tenant_id, currency)
    await budgets.set_credit_limit(session, tenant_id, limit_nano)
