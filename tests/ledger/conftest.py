"""The market of the billing suite, and shorthands for what the operator's finance people do."""

from uuid import UUID

from chappe_billing.audit.service import verify_ledger
from chappe_billing.funds.once import Moved
from chappe_billing.funds.service import Movement, move_funds, reverse
from chappe_billing.ledger.postings import TransactionKind
from tests.billing.conftest import Customer, Market, customer, make_customer, market

__all__ = ["customer", "make_customer", "market"]


async def move(
    market: Market, customer: Customer, kind: str, amount_nano: int, reference: str, **more: object
) -> Moved:
    """In one transaction. A reason is given where one is needed."""
    values: dict[str, object] = {"reason": None if kind == "top_up" else "as agreed"} | more
    asked = Movement(kind=TransactionKind(kind), amount_nano=amount_nano, reference=reference, **values)  # type: ignore[arg-type]  # a test may change any field
    async with market.database.operator() as session:
        return await move_funds(session, customer.tenant_id, asked)


async def take_back(market: Market, customer: Customer, transaction_id: UUID, reference: str = "r-1") -> Moved:
    async with market.database.operator() as session:
        return await reverse(session, customer.tenant_id, transaction_id, reference=reference, reason="typed twice")


async def available(market: Market, customer: Customer) -> int:
    return (await market.balance(customer)).available_nano


async def account(market: Market, kind: str) -> int:
    """What all accounts of a kind hold; credits are positive."""
    statement = (
        "SELECT coalesce(sum(e.amount_nano), 0)::bigint FROM ledger_entry e "
        "JOIN ledger_account a ON a.id = e.account_id WHERE a.kind = :kind"
    )
    return int(await market.scalar(statement, kind=kind))


async def assert_intact(market: Market) -> None:
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None
