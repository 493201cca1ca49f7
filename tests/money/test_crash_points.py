"""Whatever moves money is cut off before each of its statements, and after its COMMIT with the answer lost.

Before the COMMIT nothing at all has changed, in no table; afterwards all of it has. Sent again it is done once.
"""

from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from chappe_billing.credit.service import give_welcome_credit
from chappe_billing.discrepancies.queries import list_discrepancies
from chappe_billing.discrepancies.service import resolve_discrepancy
from chappe_billing.funds.moving import WAYS
from chappe_billing.funds.service import Movement, move_funds, reverse
from chappe_billing.grants.service import return_grant
from chappe_billing.ledger.postings import TransactionKind
from chappe_kernel.errors import Conflict
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts, Outcome
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.money.crashing import (
    Case,
    Prepare,
    Prepared,
    assert_a_cut_leaves_all_or_nothing,
    assert_a_lost_answer_leaves_all_done,
    is_found,
)
from tests.money.cut import Cut


async def ingesting(market: Market, make_customer: MakeCustomer, superuser: "asyncpg.Connection[Any]") -> Case:
    """A batch with all that there is: two tenants, free and paid and late events, a repeat, a contradiction, a later
    record, one that cannot be posted; and a grant that expired is freed on the way."""
    rich, poor = await make_customer(), await make_customer(15_000)
    grant, expired, small = await market.ask(rich, 900_000), await market.ask(rich, 500), await market.ask(poor, 9_000)
    await superuser.execute("UPDATE budget_grant SET release_at = now() WHERE id = $1", expired.grant_id)
    known = market.event(rich, grant.grant_id, outcome=Outcome.DISCONNECTED)
    await market.ingest(known)
    batch = [
        known,
        market.event(rich, grant.grant_id, counts=Counts(1000, 10, 300)),
        market.event(rich, expired.grant_id),
        market.event(rich, grant.grant_id, outcome=Outcome.FAILED, counts=Counts(10, 0, 0)),
        market.event(
            rich, grant.grant_id, request_id=known.request_id, outcome=Outcome.DISCONNECTED, counts=Counts(9, 0, 1)
        ),
        market.event(rich, grant.grant_id, delivered=Counts(100, 20, 30), generated=Counts(100, 20, 3)),
        market.event(poor, small.grant_id),
        market.event(poor, small.grant_id),
        market.event(rich, grant.grant_id, price_version=new_id()),
    ]
    fresh = [event.request_id for event in batch[1:4] + batch[5:8]]

    async def done() -> bool:
        return await is_found(superuser, 6, "SELECT count(*) FROM usage_event WHERE request_id = ANY($1)", fresh)

    return Case(lambda there: there.ingest(*batch), done, touches=("ledger_entry", "usage_event", "outbox", "COMMIT"))


async def asking(market: Market, make_customer: MakeCustomer, superuser: "asyncpg.Connection[Any]") -> Case:
    customer, grant_id = await make_customer(), new_id()
    expired = await market.ask(customer, 500)
    await superuser.execute("UPDATE budget_grant SET release_at = now() WHERE id = $1", expired.grant_id)

    async def done() -> bool:
        return await is_found(superuser, 1, "SELECT count(*) FROM budget_grant WHERE id = $1", grant_id)

    return Case(lambda there: there.ask(customer, 70_000, grant_id=grant_id), done, touches=("budget_grant", "COMMIT"))


async def returning(market: Market, make_customer: MakeCustomer, superuser: "asyncpg.Connection[Any]") -> Case:
    customer = await make_customer()
    grant = await market.ask(customer, 70_000)

    async def act(there: Market) -> None:
        async with there.database.ingest() as session:
            await return_grant(session, region="fr-par", grant_id=grant.grant_id, returned_nano=60_000)

    async def done() -> bool:
        return await is_found(superuser, 60_000, "SELECT returned_nano FROM budget_grant WHERE id = $1", grant.grant_id)

    return Case(act, done, touches=("UPDATE budget_grant", "UPDATE budget ", "COMMIT"))


async def correcting(market: Market, make_customer: MakeCustomer, superuser: "asyncpg.Connection[Any]") -> Case:
    customer = await make_customer()
    event = market.event(customer, (await market.ask(customer, 70_000)).grant_id)
    await market.ingest(
        event, market.event(customer, event.grant_id, request_id=event.request_id, counts=Counts(5, 0, 1))
    )
    async with market.database.operator() as session:
        found = [
            one.id
            for one in await list_discrepancies(session, resolved=False, limit=9)
            if one.request_id == event.request_id
        ]

    async def act(there: Market) -> None:
        async with there.database.operator() as session:
            await resolve_discrepancy(session, found[0], reason="the engine's log", correct=True)

    async def done() -> bool:
        statement = "SELECT corrected_nano > 0 FROM usage_discrepancy WHERE id = $1"
        return await is_found(superuser, True, statement, found[0])

    return Case(act, done, repeated=Conflict, touches=("INSERT INTO ledger_entry", "UPDATE budget", "COMMIT"))


async def welcoming(market: Market, make_customer: MakeCustomer, superuser: "asyncpg.Connection[Any]") -> Case:
    customer = await make_customer(0)

    async def act(there: Market) -> None:
        async with there.database.operator() as session:
            await give_welcome_credit(session, customer.tenant_id, 5_000, "EUR")

    async def done() -> bool:
        return await is_found(
            superuser, 5_000, "SELECT funds_nano FROM budget WHERE tenant_id = $1", customer.tenant_id
        )

    return Case(act, done, touches=("INSERT INTO ledger_entry", "UPDATE budget", "COMMIT"))


def _moving(kind: TransactionKind) -> Prepare:
    """A movement of funds by hand; what takes back a payment has one before it."""

    async def prepare(market: Market, make_customer: MakeCustomer, superuser: "asyncpg.Connection[Any]") -> Case:
        customer = await make_customer(0)
        paid = await _move(market, customer, TransactionKind.TOP_UP, 9_000, "the payment")
        if kind is TransactionKind.WRITE_OFF:
            # What was spent of a payment that the bank then took back.
            await market.ingest(market.event(customer, new_id()))
            await _move(market, customer, TransactionKind.CHARGEBACK, 9_000, "its return", payment=paid)
        takes_back = kind in {TransactionKind.REFUND, TransactionKind.CHARGEBACK}
        reference = f"{kind} {customer.tenant_id}"

        async def act(there: Market) -> None:
            await _move(there, customer, kind, 7_000, reference, payment=paid if takes_back else None)

        async def done() -> bool:
            return await is_found(
                superuser, 1, "SELECT count(*) FROM ledger_transaction WHERE reference = $1", reference
            )

        return Case(act, done, touches=("INSERT INTO ledger_entry", "INSERT INTO outbox", "UPDATE budget", "COMMIT"))

    prepare.__name__ = f"moving_{kind}"
    return prepare


async def _move(
    market: Market,
    customer: Customer,
    kind: TransactionKind,
    amount_nano: int,
    reference: str,
    *,
    payment: UUID | None = None,
) -> UUID:
    asked = Movement(kind=kind, amount_nano=amount_nano, reference=reference, reason="asked for", payment=payment)
    async with market.database.operator() as session:
        return (await move_funds(session, customer.tenant_id, asked)).transaction_id


async def reversing(market: Market, make_customer: MakeCustomer, superuser: "asyncpg.Connection[Any]") -> Case:
    customer = await make_customer(0)
    gift = await _move(market, customer, TransactionKind.GOODWILL_CREDIT, 9_000, "a gift")

    async def act(there: Market) -> None:
        async with there.database.operator() as session:
            await reverse(session, customer.tenant_id, gift, reference="taken back", reason="to somebody else")

    async def done() -> bool:
        return await is_found(superuser, 1, "SELECT count(*) FROM ledger_transaction WHERE reverses = $1", gift)

    return Case(act, done, touches=("INSERT INTO ledger_entry", "INSERT INTO outbox", "UPDATE budget", "COMMIT"))


CASES: tuple[Prepare, ...] = (
    *(ingesting, asking, returning, correcting, welcoming, reversing),
    *(_moving(kind) for kind in WAYS),
)


@pytest.fixture(params=CASES, ids=lambda prepare: prepare.__name__)
async def prepared(
    request: pytest.FixtureRequest,
    market: Market,
    cut_market: Market,
    make_customer: MakeCustomer,
    superuser: "asyncpg.Connection[Any]",
) -> Prepared:
    case = await request.param(market, make_customer, superuser)
    # What a fresh connection asks of the server is not among the statements.
    async with cut_market.database.ingest() as session:
        await session.execute(text("SELECT 1"))
    return Prepared(case, cut_market)


async def test_a_cut_before_any_statement_changes_nothing_and_the_next_try_does_all_once(
    prepared: Prepared, market: Market, cut: Cut, superuser: "asyncpg.Connection[Any]"
) -> None:
    await assert_a_cut_leaves_all_or_nothing(prepared, market, cut, superuser)


async def test_a_lost_answer_to_the_commit_leaves_all_of_it_done_once(
    prepared: Prepared, market: Market, cut: Cut, superuser: "asyncpg.Connection[Any]"
) -> None:
    await assert_a_lost_answer_leaves_all_done(prepared, market, cut, superuser)
