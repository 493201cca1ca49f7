"""Issued invoices are collected: each is settled once by what came, stays open without it, and is nobody's business
where the seller does not collect by Stripe."""

import asyncio
from datetime import timedelta

import pytest

from chappe_billing.invoices.service import settle_invoice
from chappe_billing.ledger.postings import Rail
from chappe_billing.payments import collecting
from chappe_kernel.errors import Conflict
from tests.invoices.conftest import CENT
from tests.payments.collecting import GROSS_MINOR, GROSS_NANO, Collector
from tests.payments.world import GOOD_CARD, GOOD_IBAN, REFUSED_ONCE_SAVED, card

_SLOW_REFUSED_IBAN = "DE78370400440532013004"


def _account(iban: str) -> dict[str, str]:
    return {"type": "sepa_debit", "iban": iban, "account_name": "Ada", "email": "ada@example.eu"}


async def test_an_invoice_is_charged_and_settled_once(collector: Collector) -> None:
    """Told twenty times, in its order and the other, and asked for by several workers."""
    _, invoice_id = await collector.with_card()
    assert await collector.collect() == 1
    bodies = await collector.world.events()
    for body in [*bodies[::-1], *bodies] * 10:
        await collector.world.hear(body)
    assert await collector.open_nano(invoice_id) == 0
    assert await collector.collect() == 0
    assert await collector.states() == ["succeeded"]
    assert await collector.told() == [("payment.succeeded", str(invoice_id), "2.520000000")]
    assert await collector.world.sql("SELECT count(*) FROM invoice_settlement") == [(1,)]
    assert await collector.world.sql("SELECT rail FROM ledger_transaction WHERE kind = 'payment'") == [("card",)]
    await collector.verify()


async def test_what_is_heard_before_the_answer_settles_once(collector: Collector) -> None:
    """The charge is done, its answer is lost, and the event comes first."""
    _, invoice_id = await collector.with_card()
    await collector.world.office.collect_all()
    await collector.world.stripe.switch("fault", path="/v1/payment_intents", do="close", after_commit=True)
    await collector.world.office.carry_out_due()
    await collector.world.hear_all()
    assert await collector.open_nano(invoice_id) == 0
    collector.world.clock.advance(timedelta(hours=25).total_seconds())
    await collector.world.work()
    assert await collector.states() == ["succeeded"]
    assert len((await (await collector.world.client()).v1.payment_intents.list_async()).data) == 1
    await collector.verify()


async def test_a_refused_card_leaves_it_open_and_says_so(collector: Collector) -> None:
    customer, invoice_id = await collector.with_card(REFUSED_ONCE_SAVED)
    assert await collector.collect() == 1
    await collector.world.hear_all()
    assert await collector.collect() == 0, "what failed is for dunning to want again"
    assert (await collector.open_nano(invoice_id), await collector.states()) == (GROSS_NANO, ["failed"])
    failed = ("payment.failed", str(invoice_id), "2.520000000")
    assert await collector.told() == [failed]
    await collector.save(customer, **card(GOOD_CARD))
    await collector.choose_newest_method(customer)
    async with collector.world.database.operator() as session:
        assert await collecting.begin(session, invoice_id)
    await collector.world.work()
    await collector.world.hear_all()
    assert await collector.open_nano(invoice_id) == 0
    assert await collector.told() == [failed, ("payment.succeeded", str(invoice_id), "2.520000000")]
    assert await collector.world.sql("SELECT attempt, state FROM payment ORDER BY 1") == [
        (1, "failed"),
        (2, "succeeded"),
    ]
    await collector.verify()


async def test_a_transfer_of_which_no_event_came_is_found(collector: Collector) -> None:
    customer, invoice_id = await collector.invoiced()
    await collector.collect()
    sent = await collector.world.customer(customer.scope)
    await collector.world.stripe.switch("transfer", customer=sent, amount=GROSS_MINOR, currency="eur")
    await collector.world.sql("UPDATE payment SET created_at = created_at - interval '1 hour'")
    assert await collector.world.office.look_after() == 1
    assert await collector.open_nano(invoice_id) == 0
    await collector.verify()


async def test_what_was_paid_in_part_is_asked_for_the_rest(collector: Collector) -> None:
    _, invoice_id = await collector.with_card()
    async with collector.world.database.operator() as session:
        await settle_invoice(session, invoice_id, amount_nano=100 * CENT, reference="a", rail=Rail.BANK_TRANSFER)
    assert await collector.collect() == 1
    [intent] = (await (await collector.world.client()).v1.payment_intents.list_async()).data
    assert (intent.amount, await collector.open_nano(invoice_id)) == (GROSS_MINOR - 100, 0)
    await collector.verify()


async def test_a_debit_that_fails_days_later_leaves_it_open(collector: Collector) -> None:
    _, invoice_id = await collector.invoiced(**_account(_SLOW_REFUSED_IBAN))
    await collector.collect()
    assert (await collector.open_nano(invoice_id), await collector.states()) == (GROSS_NANO, ["processing"])
    await collector.world.stripe.switch("clock", advance_s=14 * 86_400)
    await collector.world.hear_all()
    assert (await collector.open_nano(invoice_id), await collector.states()) == (GROSS_NANO, ["failed"])
    assert [topic for topic, _, _ in await collector.told()] == ["payment.failed"]
    await collector.verify()


async def test_a_debit_that_is_taken_back_opens_the_invoice_again(collector: Collector) -> None:
    customer, invoice_id = await collector.invoiced(**_account(GOOD_IBAN))
    await collector.collect()
    await collector.world.hear_all()
    assert await collector.open_nano(invoice_id) == 0
    paid = await collector.office.available(customer)
    [(intent,)] = await collector.world.sql("SELECT intent_id FROM payment")
    await collector.world.stripe.switch("open-dispute", payment_intent=intent, reason="debit_not_authorized")
    for _ in range(3):
        await collector.world.hear_all()
    assert await collector.open_nano(invoice_id) == GROSS_NANO
    assert await collector.office.available(customer) == paid - GROSS_NANO
    assert await collector.collect() == 0, "nobody is debited again who said no"
    assert await collector.world.sql("SELECT kind FROM invoice_settlement ORDER BY created_at") == [
        ("payment",),
        ("reopened",),
    ]
    await collector.verify()


@pytest.mark.parametrize("payments", ["none", "external"])
async def test_who_does_not_collect_by_stripe_asks_for_nothing(collector: Collector, payments: str) -> None:
    _, invoice_id = await collector.with_card()
    client = await collector.world.client()
    await collector.collects_by(payments)
    assert await collector.collect() == 0
    assert await collecting.collect_all(collector.world.database) == 0
    with pytest.raises(Conflict):
        async with collector.world.database.operator() as session:
            await collecting.begin(session, invoice_id)
    assert await collector.states() == []
    assert (await client.v1.payment_intents.list_async()).data == []


async def test_a_failed_collection_is_tried_again_when_dunning_wants_it(collector: Collector) -> None:
    customer, invoice_id = await collector.with_card(REFUSED_ONCE_SAVED)
    await collector.collect()
    assert await collector.dun_after_a_failure() == 1
    await collector.save(customer, **card(GOOD_CARD))
    await collector.choose_newest_method(customer)
    wishes = await asyncio.gather(*(collector.world.office.collect_again() for _ in range(4)))
    assert sum(wishes) == 1
    assert await collector.world.office.collect_again() == 0
    await collector.world.work()
    assert (await collector.open_nano(invoice_id), await collector.states()) == (0, ["failed", "succeeded"])
    assert await collector.wishes() == [(True, False)]
    await collector.verify()


async def test_one_wish_is_granted_once_however_often_it_is_delivered(collector: Collector) -> None:
    """Whoever claimed it is thought to be gone, and comes back."""
    await collector.with_card(REFUSED_ONCE_SAVED)
    await collector.collect()
    await collector.dun_after_a_failure()
    for _ in range(3):
        await collector.world.office.collect_again()
        await collector.world.work()
        await collector.world.sql("UPDATE outbox SET due_at = now()")
    assert await collector.states() == ["failed", "failed"]


async def test_a_wish_for_what_was_paid_meanwhile_asks_for_nothing(collector: Collector) -> None:
    _, invoice_id = await collector.with_card(REFUSED_ONCE_SAVED)
    await collector.collect()
    await collector.dun_after_a_failure()
    async with collector.world.database.operator() as session:
        await settle_invoice(session, invoice_id, amount_nano=GROSS_NANO, reference="a", rail=Rail.BANK_TRANSFER)
    assert await collector.world.office.collect_again() == 1
    assert (await collector.states(), await collector.wishes()) == (["failed"], [(True, False)])
    await collector.verify()


async def test_a_wish_that_nobody_may_grant_is_given_up(collector: Collector) -> None:
    await collector.with_card(REFUSED_ONCE_SAVED)
    await collector.collect()
    await collector.dun_after_a_failure()
    await collector.collects_by("none")
    assert await collecting.collect_again(collector.world.database) == 1
    assert (await collector.states(), await collector.wishes()) == (["failed"], [(False, True)])
