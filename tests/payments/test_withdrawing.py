"""What was settled another way is asked for no more: at Stripe nobody can pay it, and who has paid it all the same has
the money as credit."""

import asyncio
import contextlib
from itertools import count
from uuid import UUID, uuid4

import pytest

from chappe_billing.credit_notes.service import credit
from chappe_billing.funds.service import Movement, move_funds
from chappe_billing.invoices.service import settle_invoice, write_off_invoice
from chappe_billing.ledger.postings import Rail, TransactionKind
from chappe_billing.payments.calling import LEASE
from chappe_control.payments.office import PaymentOffice
from tests.billing.conftest import Customer
from tests.invoices.conftest import CENT
from tests.money.cut import BROKEN, Cut
from tests.payments.collecting import GROSS_MINOR, GROSS_NANO, Collector

WAYS = ("by hand", "credit note", "write-off")


async def settle(collector: Collector, invoice_id: UUID, way: str = "by hand", amount_nano: int = GROSS_NANO) -> None:
    """Not through Stripe."""
    name = f"{way} {uuid4().hex[:8]}"
    async with collector.world.database.operator() as session:
        match way:
            case "by hand":
                await settle_invoice(
                    session, invoice_id, amount_nano=amount_nano, reference=name, rail=Rail.BANK_TRANSFER
                )
            case "credit note":
                await credit(session, invoice_id, reference=name, reason="agreed")
            case _:
                await write_off_invoice(session, invoice_id, amount_nano=amount_nano, reference=name, reason="gone")


async def withdraw(collector: Collector) -> int:
    """By several workers at once, and the service is told."""
    ordered = sum(await asyncio.gather(*(collector.world.office.withdraw_all() for _ in range(3))))
    await collector.world.work()
    return ordered


async def requests(collector: Collector) -> list[tuple[str, int]]:
    """What Stripe has of invoices, the oldest first: state, and what was asked for."""
    found = (await (await collector.world.client()).v1.invoices.list_async()).data
    return [(str(one.status), one.amount_due) for one in found][::-1]


async def transfer(collector: Collector, customer: Customer, amount: int = GROSS_MINOR) -> None:
    """Money arrives at Stripe, which pays with it what waits there; nobody is told yet."""
    sent = await collector.world.customer(customer.scope)
    await collector.world.stripe.switch("transfer", customer=sent, amount=amount, currency="eur")


@pytest.mark.parametrize("way", WAYS)
async def test_a_request_for_what_is_settled_is_voided_once(collector: Collector, way: str) -> None:
    _, invoice_id = await collector.invoiced()
    await collector.collect()
    assert await withdraw(collector) == 0
    await settle(collector, invoice_id, way)
    assert await withdraw(collector) == 1
    assert await requests(collector) == [("void", GROSS_MINOR)]
    for _ in range(2):
        await collector.world.hear_all()
        assert await withdraw(collector) == 0
        assert await collector.collect() == 0
    assert await collector.states() == ["expired"]
    assert await collector.world.sql("SELECT problem FROM payment") == [("withdrawn",)]
    assert await collector.world.sql("SELECT count(*) FROM payment_call WHERE kind = 'withdraw'") == [(1,)]
    assert await collector.told() == []
    await collector.verify()


async def test_what_is_left_is_asked_for_anew(collector: Collector) -> None:
    customer, invoice_id = await collector.invoiced()
    await collector.collect()
    await settle(collector, invoice_id, amount_nano=100 * CENT)
    assert await withdraw(collector) == 1
    assert await collector.collect() == 1
    assert await requests(collector) == [("void", GROSS_MINOR), ("open", GROSS_MINOR - 100)]
    await transfer(collector, customer, GROSS_MINOR - 100)
    await collector.world.hear_all()
    assert (await collector.open_nano(invoice_id), await collector.states()) == (0, ["expired", "succeeded"])
    await collector.verify()


@pytest.mark.parametrize("tells", [False, True])
async def test_who_pays_before_it_is_voided_has_credit(collector: Collector, *, tells: bool) -> None:
    """Stripe's payment is heard of by its event, or only when the request is to be withdrawn."""
    customer, invoice_id = await collector.invoiced()
    await collector.collect()
    await settle(collector, invoice_id)
    assert await collector.world.office.withdraw_all() == 1
    await transfer(collector, customer)
    if tells:
        await collector.world.hear_all()
    await collector.world.work()
    for _ in range(2):
        await collector.world.hear_all()
    assert (await collector.open_nano(invoice_id), await collector.states()) == (0, ["succeeded"])
    assert await requests(collector) == [("paid", GROSS_MINOR)]
    assert await collector.office.funds(customer) == 1 + GROSS_NANO
    # Nothing was open any more: it is told as the credit that it is, and once.
    assert await collector.told() == [("payment.succeeded", None, "2.520000000")]
    assert await collector.world.sql("SELECT state FROM payment_call WHERE kind = 'withdraw'") == [("done",)]
    await collector.verify()


@pytest.mark.parametrize("do", ["close", "429", "500"])
async def test_a_withdrawal_whose_answer_is_lost_is_made_once(collector: Collector, do: str) -> None:
    _, invoice_id = await collector.invoiced()
    await collector.collect()
    await settle(collector, invoice_id)
    await collector.world.office.withdraw_all()
    await collector.world.stripe.switch("fault", path="/v1/invoices/*/void", do=do, after_commit=do == "close")
    await collector.world.office.carry_out_due()
    assert await collector.states() == ["open"]
    collector.world.clock.advance(LEASE.total_seconds())
    await collector.world.work()
    assert (await requests(collector), await collector.states()) == ([("void", GROSS_MINOR)], ["expired"])
    await collector.verify()


async def test_what_was_not_sent_yet_is_never_sent(collector: Collector) -> None:
    """Stripe was away, and the customer paid by hand meanwhile."""
    customer, invoice_id = await collector.with_card()
    await collector.world.office.collect_all()
    await settle(collector, invoice_id)
    await collector.world.work()
    await collector.world.hear_all()
    assert (await (await collector.world.client()).v1.payment_intents.list_async()).data == []
    assert await collector.office.funds(customer) == 1
    assert await collector.states() == ["expired"]
    assert await collector.world.sql("SELECT state FROM payment_call WHERE kind = 'charge'") == [("withdrawn",)]
    assert await collector.collect() == 0
    await collector.verify()


@pytest.mark.parametrize("charged", [False, True])
async def test_what_may_have_been_sent_is_looked_for_and_not_sent_again(collector: Collector, *, charged: bool) -> None:
    """The card was charged and the answer lost, or the charge never arrived; then the customer paid by hand."""
    customer, invoice_id = await collector.with_card()
    await collector.world.office.collect_all()
    await collector.world.stripe.switch("fault", path="/v1/payment_intents", do="close", after_commit=charged)
    await collector.world.office.carry_out_due()
    await settle(collector, invoice_id)
    collector.world.clock.advance(LEASE.total_seconds())
    await collector.world.work()
    await collector.world.hear_all()
    assert len((await (await collector.world.client()).v1.payment_intents.list_async()).data) == charged
    assert await collector.office.funds(customer) == 1 + charged * GROSS_NANO
    assert await collector.states() == ["succeeded" if charged else "expired"]
    assert len(await collector.told()) == charged
    await collector.verify()


async def test_a_payment_assigned_from_suspense_leaves_what_is_asked_for_as_it_was(collector: Collector) -> None:
    """It is the tenant's deposit, which the next invoice uses, and not this one's payment."""
    customer, invoice_id = await collector.invoiced()
    await collector.collect()
    asked = Movement(kind=TransactionKind.TOP_UP, amount_nano=GROSS_NANO, reference="a", rail=Rail.BANK_TRANSFER)
    async with collector.world.database.operator() as session:
        await move_funds(session, customer.tenant_id, asked)
    assert await withdraw(collector) == 0
    assert await collector.open_nano(invoice_id) == GROSS_NANO


async def test_a_withdrawal_that_is_cut_anywhere_is_made_once(
    collector: Collector, crashing: PaymentOffice, cut: Cut
) -> None:
    _, invoice_id = await collector.invoiced()
    await collector.collect()
    await settle(collector, invoice_id)
    for work, ends in ((crashing.withdraw_all, "waiting"), (crashing.carry_out_due, "done")):
        for number in count():
            cut.arm(before=number)
            with contextlib.suppress(*BROKEN):
                await work()
            calls = await collector.world.sql("SELECT state FROM payment_call WHERE kind = 'withdraw'")
            if calls == [(ends,)]:
                break
            assert calls == ([] if ends == "waiting" else [("waiting",)])
            collector.world.clock.advance(LEASE.total_seconds() + 1)
        assert number > 5, "it was cut before many statements"
    assert (await requests(collector), await collector.states()) == ([("void", GROSS_MINOR)], ["expired"])
    await collector.verify()
