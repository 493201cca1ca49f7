"""`chappe ledger verify` finds what is wrong in the books."""

import pytest
from sqlalchemy import text

from chappe_billing.audit.books import BOOKS
from chappe_billing.audit.queries import find_difference
from chappe_billing.quarantine import service
from chappe_billing.quarantine.queries import list_quarantined
from chappe_kernel.ids import new_id
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.conftest import DatabaseUrls, PostgresServer
from tests.ledger.conftest import assert_intact, move, take_back
from tests.ledger.test_payouts import pay
from tests.ledger.test_suspense import assign, receive

_ENTITY = "INSERT INTO legal_entity (id, name, currency) VALUES ('00000000-0000-7000-8000-00000000000b', 'B', 'EUR');"
_OTHER = "'00000000-0000-7000-8000-00000000000b'"
TAMPERING = {
    "an account changes its entity": f"UPDATE ledger_account SET legal_entity_id = {_OTHER} WHERE kind = 'revenue'",
    "a tenant changes its entity": f"UPDATE tenant SET legal_entity_id = {_OTHER}",
    "a message is gone": "DELETE FROM outbox WHERE topic = 'ledger.posted'",
    "a reversal gives more": """
        UPDATE ledger_entry SET amount_nano = amount_nano * 2
        WHERE transaction_id = (SELECT id FROM ledger_transaction WHERE kind = 'reversal')
    """,
    "a reversal names another's": f"""
        UPDATE ledger_transaction SET tenant_id = {_OTHER} WHERE kind = 'reversal'
    """,
    "a payment was smaller": """
        UPDATE ledger_entry SET amount_nano = amount_nano / 10
        WHERE transaction_id = (SELECT id FROM ledger_transaction WHERE reference = 'card 1')
    """,
    "a payment in suspense was smaller": """
        UPDATE ledger_entry SET amount_nano = amount_nano / 10
        WHERE transaction_id = (SELECT id FROM ledger_transaction WHERE kind = 'suspense')
    """,
    "an assignment names no payment": "UPDATE ledger_transaction SET reverses = NULL WHERE reference = 'part 1'",
    "a payout was larger": """
        UPDATE ledger_entry SET amount_nano = amount_nano * 1000000
        WHERE transaction_id = (SELECT id FROM ledger_transaction WHERE kind = 'publisher_share')
    """,
    "a share is gone": "DELETE FROM publisher_share",
    "a share is taken and was never given": """
        UPDATE publisher_share SET base_nano = -base_nano, share_nano = -share_nano
    """,
    "a decision is another": "UPDATE usage_quarantine_decision SET amount_nano = amount_nano + 1",
    "a decision is gone": "DELETE FROM usage_quarantine_decision",
}
FINDERS = {
    "an account changes its entity": "a transaction and its entries are in one legal entity's books and currency",
    "a tenant changes its entity": "a tenant's money is in its own legal entity's books",
    "a message is gone": "a transaction is announced once, under its own id",
    "a reversal gives more": "a reversal is the opposite of what it names",
    "a reversal names another's": (
        "what takes something back is in the same books, of the same tenant if it had one, and later"
    ),
    "a payment was smaller": "no more of a payment goes back than came in",
    "a payment in suspense was smaller": "no more of a payment in suspense is settled than came in",
    "an assignment names no payment": "what leaves suspense names the payment that it came from",
    "a payout was larger": "a publisher is paid no more than it ever earned",
    "a share is gone": "a publisher's account holds its shares and what was paid out of it",
    "a share is taken and was never given": "no more of a publisher's share is taken back than was posted",
    "a decision is another": "usage that was given up is the operator's loss",
    "a decision is gone": "usage that was given up is the operator's loss",
}


@pytest.fixture
async def busy(market: Market, customer: Customer, make_customer: MakeCustomer) -> Market:
    """Something of everything that the rules look at, and intact."""
    async with market.database.operator() as session:
        await session.execute(text("UPDATE listing SET publisher_share_bp = 7000"))
    grant = await market.ask(customer, 1_000_000)
    await market.ingest(market.event(customer, grant.grant_id), market.event(await make_customer(1_000), new_id()))
    payment = await move(market, customer, "top_up", 5_000, "card 1")
    await move(market, customer, "chargeback", 4_000, "cb 1", payment=payment.transaction_id)
    gift = await move(market, customer, "goodwill_credit", 500, "ticket 7")
    await take_back(market, customer, gift.transaction_id)
    await assign(market, (await receive(market)).transaction_id, customer, 4_000, "part 1")
    await pay(market, 1)
    await market.ingest(market.event(customer, grant.grant_id, key_id=new_id()))
    async with market.database.ingest() as session:
        (found,) = await list_quarantined(session, decided=False, limit=10)
        await service.write_off(session, found.request_id, found.digest, reason="unknown")
    await assert_intact(market)
    return market


async def test_each_tampering_is_found_by_its_rule(
    busy: Market, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    """Each undone again: the database is dear to make, and rolled back for nothing."""
    rules = {rule.name: rule for rule in BOOKS}
    connection = await postgres.superuser(database_urls.name)
    try:
        for tampering, statement in TAMPERING.items():
            rule = rules[FINDERS[tampering]]
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(_ENTITY)
            assert not (await connection.execute(statement)).endswith(" 0"), tampering
            assert await connection.fetch(f"{rule.statement} LIMIT 1"), tampering
            await transaction.rollback()
    finally:
        await connection.close()
    async with busy.database.audit() as session:
        for rule in BOOKS:
            assert await find_difference(session, rule) is None


def test_each_rule_has_a_tampering() -> None:
    assert set(FINDERS) == set(TAMPERING)
    decided = "what was decided about quarantined usage was posted, or was not"
    assert {rule.name for rule in BOOKS} == set(FINDERS.values()) | {decided}
