"""Another story of a posted request changes nothing by itself; a correction is in the tenant's favour, and once."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_billing.audit.service import verify_ledger
from chappe_billing.discrepancies.comparing import contradicting_counts, in_the_tenants_favour
from chappe_billing.discrepancies.queries import ListedDiscrepancy, list_discrepancies
from chappe_billing.discrepancies.service import resolve_discrepancy
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts, Outcome
from chappe_kernel.wire.control import UsageEvent
from tests.billing.conftest import NOW, Customer, MakeCustomer, Market
from tests.conftest import DatabaseUrls

POSTED = Counts(100, 20, 30)
SMALLER = Counts(100, 20, 10)
LARGER = Counts(100, 20, 50)


async def told_twice(market: Market, customer: Customer, later: Counts) -> tuple[UsageEvent, UsageEvent]:
    """A posted event, and another story of the same request that was taken in after it."""
    grant = await market.ask(customer, 1_000_000)
    first = market.event(customer, grant.grant_id, counts=POSTED, outcome=Outcome.DISCONNECTED)
    second = market.event(
        customer, grant.grant_id, request_id=first.request_id, counts=later, outcome=Outcome.DISCONNECTED
    )
    await market.ingest(first)
    receipt = await market.ingest(second)
    assert (receipt.posted, receipt.repeated, receipt.quarantined, receipt.disputed) == (0, 0, 0, 1)
    return first, second


async def listed(market: Market, *, resolved: bool = False) -> list[ListedDiscrepancy]:
    async with market.database.operator() as session:
        return await list_discrepancies(session, resolved=resolved, limit=100)


async def resolve(market: Market, found: UUID, *, correct: bool, reason: str = "looked at the engine's log") -> int:
    async with market.database.operator() as session:
        return await resolve_discrepancy(session, found, reason=reason, correct=correct)


async def assert_intact(market: Market) -> None:
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


@pytest.mark.parametrize("later", [SMALLER, LARGER])
async def test_a_later_record_opens_a_discrepancy_and_moves_no_money(
    market: Market, customer: Customer, later: Counts
) -> None:
    first, second = await told_twice(market, customer, later)
    balance = await market.balance(customer)
    assert balance.available_nano == 10_000_000_000 - first.amount_nano
    [found] = await listed(market)
    assert (found.kind, found.request_id, found.tenant_id) == ("later_record", first.request_id, first.tenant_id)
    assert (found.paid_nano, found.amount_nano) == (first.amount_nano, second.amount_nano)
    assert (found.posted_completion_tokens, found.completion_tokens) == (30, later.completion_tokens)
    again = await market.ingest(second, first)
    assert (again.repeated, again.disputed) == (2, 0)
    assert await listed(market) == [found]
    await assert_intact(market)


async def test_a_correction_gives_back_the_difference_once(market: Market, customer: Customer) -> None:
    _, second = await told_twice(market, customer, SMALLER)
    [found] = await listed(market)
    given_back = await resolve(market, found.id, correct=True)
    assert given_back == 20 * 210
    assert (await market.balance(customer)).available_nano == 10_000_000_000 - second.amount_nano
    with pytest.raises(Conflict):
        await resolve(market, found.id, correct=True)
    assert await listed(market) == []
    [done] = await listed(market, resolved=True)
    assert (done.corrected_nano, done.reason) == (given_back, "looked at the engine's log")
    assert (await market.balance(customer)).available_nano == 10_000_000_000 - second.amount_nano
    await assert_intact(market)


async def test_nothing_is_corrected_against_the_tenant(market: Market, customer: Customer) -> None:
    first, _ = await told_twice(market, customer, LARGER)
    [found] = await listed(market)
    with pytest.raises(Invalid):
        await resolve(market, found.id, correct=True)
    assert await resolve(market, found.id, correct=False) == 0
    assert (await market.balance(customer)).available_nano == 10_000_000_000 - first.amount_nano
    assert await market.scalar("SELECT count(*) FROM ledger_transaction WHERE kind = 'usage_correction'") == 0
    await assert_intact(market)


async def test_ten_operators_at_once_correct_once(market: Market, customer: Customer) -> None:
    _, second = await told_twice(market, customer, SMALLER)
    [found] = await listed(market)
    answers = await asyncio.gather(*(resolve(market, found.id, correct=True) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, int) for answer in answers) == 1
    assert (await market.balance(customer)).available_nano == 10_000_000_000 - second.amount_nano
    await assert_intact(market)


async def test_two_discrepancies_of_one_request_give_back_no_more_than_the_lower_one(
    market: Market, customer: Customer
) -> None:
    first, _ = await told_twice(market, customer, SMALLER)
    lowest = market.event(
        customer, first.grant_id, request_id=first.request_id, counts=Counts(100, 20, 1), outcome=Outcome.DISCONNECTED
    )
    await market.ingest(lowest)
    given_back = [await resolve(market, found.id, correct=True) for found in await listed(market)]
    assert given_back == [20 * 210, 9 * 210]
    assert (await market.balance(customer)).available_nano == 10_000_000_000 - lowest.amount_nano
    await assert_intact(market)


async def test_what_was_written_off_is_not_given_back(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(10_000)
    request_id = new_id()
    first = market.event(customer, new_id(), request_id=request_id, counts=Counts(100, 0, 30))
    await market.ingest(first)
    free = market.event(customer, first.grant_id, request_id=request_id, counts=Counts(0, 0, 0))
    await market.ingest(free)
    [found] = await listed(market)
    assert first.amount_nano > found.paid_nano == 10_000
    assert await resolve(market, found.id, correct=True) == 10_000
    assert (await market.balance(customer)).available_nano == 10_000
    await assert_intact(market)


async def test_both_stories_in_one_batch_post_the_first(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    first = market.event(customer, grant.grant_id, counts=POSTED)
    second = market.event(customer, grant.grant_id, request_id=first.request_id, counts=SMALLER)
    receipt = await market.ingest(first, second, second)
    assert (receipt.posted, receipt.repeated, receipt.quarantined, receipt.disputed) == (1, 1, 0, 1)
    assert (await market.balance(customer)).available_nano == 10_000_000_000 - first.amount_nano
    await assert_intact(market)


async def test_witnesses_that_contradict_each_other_open_a_discrepancy_with_the_event(
    market: Market, customer: Customer
) -> None:
    grant = await market.ask(customer, 1_000_000)
    event = market.event(
        customer, grant.grant_id, counts=POSTED, outcome=Outcome.DISCONNECTED, delivered=LARGER, generated=POSTED
    )
    odd = market.event(customer, grant.grant_id, counts=POSTED, delivered=POSTED, generated=Counts(90, 20, 30))
    receipt = await market.ingest(event, odd)
    assert (receipt.posted, receipt.disputed) == (2, 0)
    assert {(found.kind, found.completion_tokens) for found in await listed(market)} == {("witnesses_differ", 30)}
    statement = "SELECT delivered_tokens || ' ' || generated_tokens || ' ' || settled_by FROM usage_event"
    assert await market.scalar(f"{statement} WHERE request_id = :id", id=event.request_id) == "50 30 gateway"
    assert (await market.ingest(event, odd)).repeated == 2
    assert len(await listed(market)) == 2
    await assert_intact(market)


async def test_differences_that_the_outcome_explains_open_none(market: Market, customer: Customer) -> None:
    grant = await market.ask(customer, 1_000_000)
    for outcome, counts in ((Outcome.DISCONNECTED, LARGER), (Outcome.FAILED, SMALLER)):
        event = market.event(
            customer, grant.grant_id, counts=counts, outcome=outcome, delivered=SMALLER, generated=LARGER
        )
        assert (await market.ingest(event)).posted == 1
    dead = market.event(customer, grant.grant_id, counts=LARGER, generated=LARGER, settled_by="engine")
    assert (await market.ingest(dead)).posted == 1
    assert await listed(market) == []


async def test_a_reason_is_needed_and_the_discrepancy_must_exist(market: Market, customer: Customer) -> None:
    await told_twice(market, customer, SMALLER)
    [found] = await listed(market)
    with pytest.raises(Invalid):
        await resolve(market, found.id, correct=True, reason="  ")
    with pytest.raises(NotFound):
        await resolve(market, new_id(), correct=True)
    assert len(await listed(market)) == 1


def chappe(urls: DatabaseUrls, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("chappe")), "usage", "discrepancies", *arguments]
    environ = {"CHAPPE_DATABASE_URL": urls.app}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


async def test_the_command_lists_and_resolves(market: Market, customer: Customer, database_urls: DatabaseUrls) -> None:
    first, second = await told_twice(market, customer, SMALLER)
    shown = await asyncio.to_thread(chappe, database_urls, "list")
    assert shown.returncode == 0, shown.stderr
    [line] = [json.loads(line) for line in shown.stdout.splitlines()]
    assert line["request_id"].startswith("req_")
    assert (line["posted_completion_tokens"], line["completion_tokens"]) == (30, 10)
    assert float(line["paid"]) * 10**9 == pytest.approx(first.amount_nano)
    done = await asyncio.to_thread(chappe, database_urls, "resolve", line["id"], "--correct", "--reason", "seen")
    assert (done.returncode, done.stdout) == (0, "resolved; given back: 0.000004200\n"), done.stderr
    again = await asyncio.to_thread(chappe, database_urls, "resolve", line["id"], "--correct", "--reason", "seen")
    assert again.returncode == 1
    assert "resolved already" in again.stderr
    assert (await asyncio.to_thread(chappe, database_urls, "list")).stdout == ""
    assert (await market.balance(customer)).available_nano == 10_000_000_000 - second.amount_nano


counts = st.builds(
    lambda prompt, cached, made: Counts(prompt, min(cached, prompt), made), *(st.integers(0, 50) for _ in range(3))
)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_correction_never_takes_and_never_exceeds_what_was_paid(paid: int, corrected: int, other: int) -> None:
    given_back = in_the_tenants_favour(paid, corrected, other)
    assert given_back >= 0
    assert given_back == 0 or corrected + given_back <= paid - other


@given(counts, counts, counts)
def test_contradicting_witnesses_cost_at_most_the_smaller(
    charged: Counts, delivered: Counts, generated: Counts
) -> None:
    event = UsageEvent(
        request_id=new_id(),
        tenant_id=new_id(),
        project_id=new_id(),
        key_id=new_id(),
        grant_id=new_id(),
        listing="tiny-chat",
        price_version=new_id(),
        outcome=Outcome.DISCONNECTED,
        counts=charged,
        amount_nano=0,
        hold_nano=0,
        started_at=NOW,
        finished_at=NOW,
        delivered=delivered,
        generated=generated,
    )
    smaller = contradicting_counts(event)
    if smaller is not None:
        for other in (charged, delivered, generated):
            assert smaller.prompt_tokens <= other.prompt_tokens
            assert smaller.completion_tokens <= other.completion_tokens
