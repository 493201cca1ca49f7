"""A crash before any statement of the webhook or of the worker, and after any commit: no credit twice, none lost."""

from itertools import count

from chappe_billing.payments.calling import LEASE
from chappe_control.payments.office import PaymentOffice
from tests.money.cut import BROKEN, Cut
from tests.payments.collecting import Collector
from tests.payments.world import REFUSED_ONCE_SAVED, PaymentWorld

_EUR = 10**9


async def test_a_webhook_that_is_cut_anywhere_credits_once(
    world: PaymentWorld, crashing: PaymentOffice, cut: Cut
) -> None:
    scope = await world.buyer()
    await world.pay(scope)
    [body] = [body for body in await world.events() if b'"payment_intent.succeeded"' in body]
    for number in count():
        cut.arm(before=number)
        try:
            await crashing.hear(body, world.sign(body))
        except BROKEN:
            assert await world.balance_nano(scope) == 0
            assert await world.sql("SELECT count(*) FROM payment_event") == [(0,)]
        else:
            break
    assert number > 10, "it was cut before many statements"
    assert await world.balance_nano(scope) == 100 * _EUR
    await world.hear_all()
    assert await world.balance_nano(scope) == 100 * _EUR
    await world.assert_sound()


async def test_a_worker_that_is_cut_anywhere_refunds_once(
    world: PaymentWorld, crashing: PaymentOffice, cut: Cut
) -> None:
    scope = await world.buyer()
    payment = await world.topped_up(scope)
    await world.refund(payment, 6_000)
    for number in count():
        cut.arm(before=number)
        try:
            done = await crashing.carry_out_due()
        except BROKEN:
            # Whoever claimed it is gone: it is due again when its time with it is over.
            world.clock.advance(LEASE.total_seconds() + 1)
        else:
            assert done == 1
            break
    assert number > 10, "it was cut before many statements"
    assert len((await (await world.client()).v1.refunds.list_async()).data) == 1
    assert await world.sql("SELECT state FROM payment_refund") == [("succeeded",)]
    assert await world.balance_nano(scope) == 50 * _EUR
    await world.assert_sound()


async def test_a_collection_that_is_cut_anywhere_charges_and_settles_once(
    collector: Collector, crashing: PaymentOffice, cut: Cut
) -> None:
    """Also between Stripe's answer and what settles the invoice."""
    _, invoice_id = await collector.with_card()
    assert await collector.world.office.collect_all() == 1
    for number in count():
        cut.arm(before=number)
        try:
            done = await crashing.carry_out_due()
        except BROKEN:
            assert await collector.states() == ["asked"]
            collector.world.clock.advance(LEASE.total_seconds() + 1)
        else:
            assert done == 1
            break
    assert number > 10, "it was cut before many statements"
    await collector.world.hear_all()
    assert len((await (await collector.world.client()).v1.payment_intents.list_async()).data) == 1
    assert (await collector.open_nano(invoice_id), await collector.states()) == (0, ["succeeded"])
    await collector.verify()


async def test_a_wish_of_dunnings_that_is_cut_anywhere_is_granted_once(
    collector: Collector, crashing: PaymentOffice, cut: Cut
) -> None:
    await collector.with_card(REFUSED_ONCE_SAVED)
    await collector.collect()
    await collector.dun_after_a_failure()
    for number in count():
        cut.arm(before=number)
        try:
            done = await crashing.collect_again()
        except BROKEN:
            assert await collector.states() == ["failed"]
            await collector.world.sql("UPDATE outbox SET due_at = now()")
        else:
            assert done == 1
            break
    assert number > 5, "it was cut before many statements"
    assert (await collector.states(), await collector.wishes()) == (["failed", "asked"], [(True, False)])
