"""Two requests under one Idempotency-Key within 24 hours are charged once, in whatever order and batches they come."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from chappe_billing.audit.service import verify_ledger
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts, Outcome
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.conftest import DatabaseUrls, PostgresServer

DIGEST = b"d" * 32
BEFORE = 10_000_000_000


def id_at(moment: datetime) -> UUID:
    """A UUIDv7 of that time."""
    return UUID(int=int(moment.timestamp() * 1000) << 80 | new_id().int & (1 << 80) - 1)


async def spent_nano(market: Market, customer: Customer) -> int:
    return BEFORE - (await market.balance(customer)).available_nano


async def assert_intact(market: Market) -> None:
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


@pytest.mark.parametrize("batches", [1, 2])
async def test_the_second_is_posted_at_zero_and_names_the_first(
    market: Market, customer: Customer, batches: int
) -> None:
    grant = await market.ask(customer, 1_000_000)
    first, second = (market.event(customer, grant.grant_id, idempotency_digest=DIGEST) for _ in range(2))
    if batches == 1:
        await market.ingest(second, first)
    else:
        await market.ingest(first)
        assert (await market.ingest(second)).posted == 1
    assert await spent_nano(market, customer) == first.amount_nano > 0
    statement = "SELECT repeats FROM usage_event WHERE request_id = :id AND amount_nano = 0 AND prompt_tokens = 100"
    assert await market.scalar(statement, id=second.request_id) == first.request_id
    assert await market.scalar("SELECT sum(requests) FROM usage_hour") == 2
    await assert_intact(market)


async def test_sent_again_the_free_one_is_known(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    events = [market.event(customer, grant.grant_id, idempotency_digest=DIGEST) for _ in range(2)]
    await market.ingest(*events)
    again = await market.ingest(*events)
    assert (again.posted, again.repeated, again.quarantined, again.disputed) == (0, 2, 0, 0)
    await assert_intact(market)


@pytest.mark.parametrize(
    ("apart", "charged"),
    [(timedelta(hours=24), 1), (timedelta(hours=24, milliseconds=1), 2), (-timedelta(hours=23), 1)],
)
async def test_24_hours_of_the_ids_count_and_not_when_they_arrive(
    market: Market, customer: Customer, apart: timedelta, charged: int
) -> None:
    at = datetime.now(UTC) - timedelta(hours=30)
    one, other = (
        market.event(customer, new_id(), request_id=id_at(moment), idempotency_digest=DIGEST)
        for moment in (at, at + apart)
    )
    await market.ingest(one)
    await market.ingest(other)
    assert await spent_nano(market, customer) == charged * one.amount_nano
    await assert_intact(market)


async def test_a_third_is_measured_by_what_was_charged(market: Market, customer: Customer) -> None:
    at = datetime.now(UTC) - timedelta(hours=40)
    events = [
        market.event(customer, new_id(), request_id=id_at(at + timedelta(hours=hours)), idempotency_digest=DIGEST)
        for hours in (0, 20, 30)
    ]
    await market.ingest(*events)
    assert await spent_nano(market, customer) == 2 * events[0].amount_nano
    await assert_intact(market)


async def test_a_free_failure_makes_nothing_free(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    failed = market.event(
        customer, grant.grant_id, idempotency_digest=DIGEST, outcome=Outcome.FAILED, counts=Counts(50, 0, 0)
    )
    retried = market.event(customer, grant.grant_id, idempotency_digest=DIGEST)
    await market.ingest(failed, retried)
    assert await spent_nano(market, customer) == retried.amount_nano > 0
    await assert_intact(market)


async def test_keys_of_others_are_other_keys(market: Market, make_customer: MakeCustomer) -> None:
    one, other = await make_customer(), await make_customer()
    event = market.event(one, new_id(), idempotency_digest=DIGEST)
    elsewhere = market.event(one, new_id(), idempotency_digest=DIGEST, price_version=market.prices["de-fra"])
    await market.ingest(event)
    await market.ingest(elsewhere, region="de-fra")
    await market.ingest(market.event(other, new_id(), idempotency_digest=DIGEST))
    await market.ingest(market.event(one, new_id(), idempotency_digest=b"e" * 32))
    assert await spent_nano(market, one) == 3 * event.amount_nano
    assert await spent_nano(market, other) == event.amount_nano


async def test_a_digest_that_no_index_takes_is_kept_aside(market: Market, customer: Customer) -> None:
    bad = market.event(customer, new_id(), idempotency_digest=b"d" * 65)
    assert (await market.ingest(bad, market.event(customer, new_id()))).posted == 1
    assert await market.scalar("SELECT code FROM usage_quarantine") == "impossible_digest"


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE usage_event SET repeats = NULL WHERE repeats IS NOT NULL",
        "UPDATE usage_event SET repeats = uuidv7() WHERE repeats IS NOT NULL",
        "UPDATE usage_event SET idempotency_digest = 'x' WHERE repeats IS NULL",
        "UPDATE usage_event SET idempotency_digest = 'x' WHERE repeats IS NOT NULL",
    ],
)
async def test_verify_finds_a_free_request_that_repeats_nothing(
    market: Market, customer: Customer, postgres: PostgresServer, database_urls: DatabaseUrls, tampering: str
) -> None:
    await market.ingest(*(market.event(customer, new_id(), idempotency_digest=DIGEST) for _ in range(2)))
    connection = await postgres.superuser(database_urls.name)
    await connection.execute("SET session_replication_role = replica")
    assert await connection.execute(tampering) == "UPDATE 1"
    await connection.close()
    async with market.database.audit() as session:
        assert await verify_ledger(session) is not None


@pytest.mark.parametrize("is_turned", [False, True])
async def test_whichever_comes_first_is_charged_at_its_own_amount_and_only_it(
    market: Market, customer: Customer, is_turned: bool
) -> None:
    """As after a restore to before both, when two spools send theirs again in either order."""
    grant = await market.ask(customer, 1_000_000)
    both = [
        market.event(customer, grant.grant_id, idempotency_digest=DIGEST, counts=Counts(100, 0, made))
        for made in (10, 20)
    ]
    first, second = reversed(both) if is_turned else both
    for one in (first, second, first):
        await market.ingest(one)
    assert await spent_nano(market, customer) == first.amount_nano != second.amount_nano
    await assert_intact(market)
