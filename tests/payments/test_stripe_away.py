"""Row 24 of the faults: Stripe is away for 2 h, and for 30 h. What was to be told is told, and nothing twice."""

import asyncio

import pytest

from chappe_billing.payments import calling
from tests.payments.world import PaymentWorld, card

_EUR = 10**9


async def _is_made_once(world: PaymentWorld) -> None:
    client = await world.client()
    assert len((await client.v1.customers.list_async()).data) == 1
    assert len((await client.v1.checkout.sessions.list_async()).data) == 1


@pytest.mark.parametrize("hours", [2, 30])
async def test_while_stripe_is_away_nothing_is_lost_and_nothing_done_twice(world: PaymentWorld, hours: int) -> None:
    scope = await world.buyer()
    await world.stripe.switch("away", away=True)
    payment_id = await world.ask(scope)
    await world.work()
    for _ in range(hours * 2):
        world.clock.advance(1800)
        await world.work()
    [(state, attempts)] = await world.sql("SELECT state, attempts FROM payment_call WHERE kind = 'customer'")
    assert (state, attempts > 3) == ("waiting", True)
    await world.stripe.switch("away", away=False)
    world.clock.advance(1800)
    await world.work()
    await _is_made_once(world)
    await world.stripe.submit(await world.page_of(scope, payment_id), **card())
    await world.hear_all()
    assert await world.balance_nano(scope) == 100 * _EUR
    assert await world.sql("SELECT count(*) FROM payment_call WHERE state <> 'done'") == [(0,)]


@pytest.mark.parametrize(("hours", "outcome"), [(2, "done"), (30, "found")])
async def test_a_call_whose_answer_was_lost_is_not_done_again(world: PaymentWorld, hours: int, outcome: str) -> None:
    """After two hours Stripe knows the key; after thirty it has forgotten it, and we look first."""
    scope = await world.buyer()
    await world.save_card(scope)
    await world.topped_up(scope)
    payment = (await world.sql("SELECT id FROM payment"))[0][0]
    await world.refund(await world.payment(scope, payment), 6_000)
    await world.stripe.switch("fault", path="/v1/refunds", do="close", times=1, after_commit=True)
    await world.work()
    await world.stripe.switch("away", away=True)
    world.clock.advance(hours * 3600)
    await world.stripe.switch("clock", advance_s=hours * 3600)
    await world.work()
    await world.stripe.switch("away", away=False)
    world.clock.advance(1800)
    await world.work()
    assert len((await (await world.client()).v1.refunds.list_async()).data) == 1
    assert await world.sql("SELECT state FROM payment_refund") == [("succeeded",)]
    [(last,)] = await world.sql(
        "SELECT t.outcome FROM payment_call_attempt t JOIN payment_call c ON c.id = t.call_id "
        "WHERE c.kind = 'refund' ORDER BY t.at DESC LIMIT 1"
    )
    assert last == outcome


@pytest.mark.parametrize("do", ["429", "500", "close"])
async def test_a_call_that_fails_for_a_while_is_done_once(world: PaymentWorld, do: str) -> None:
    scope = await world.buyer()
    payment_id = await world.ask(scope)
    await world.stripe.switch("fault", path="/v1/*", do=do, times=3)
    for _ in range(6):
        await world.work()
        world.clock.advance(900)
    await world.work()
    await _is_made_once(world)
    assert (await world.payment(scope, payment_id)).state == "open"


async def test_many_workers_do_each_call_once(world: PaymentWorld) -> None:
    scope = await world.buyer()
    await world.ask(scope)
    for _ in range(3):
        await asyncio.gather(*(world.work() for _ in range(8)))
    await _is_made_once(world)


async def test_a_poisoned_call_waits_for_a_person_with_its_log(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment_id = await world.ask(scope)
    await world.sql(
        "UPDATE payment_call SET parameters = parameters || '{\"gross_minor\": -1}' WHERE kind = 'checkout'"
    )
    await world.work()
    [(call_id, state)] = await world.sql("SELECT id, state FROM payment_call WHERE kind = 'checkout'")
    assert state == "poisoned"
    [(outcome, detail)] = await world.sql(
        "SELECT outcome, detail FROM payment_call_attempt WHERE call_id = :id", id=call_id
    )
    assert (outcome, "InvalidRequestError" in detail) == ("poisoned", True)
    assert world.stripe.api_key not in detail
    await world.sql(
        "UPDATE payment_call SET parameters = parameters || '{\"gross_minor\": 12000}' WHERE id = :id", id=call_id
    )
    async with world.database.operator() as session:
        await calling.try_again(session, call_id, reason="the amount was wrong")
    await world.stripe.submit(await world.page_of(scope, payment_id), **card())
    await world.hear_all()
    assert await world.balance_nano(scope) == 100 * _EUR
