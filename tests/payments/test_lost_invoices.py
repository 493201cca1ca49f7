"""A lost dispute opens the invoice again: the debt is dunned, is collected another way, and every sum stays true."""

from uuid import UUID

import pytest
from msgspec import structs

from chappe_billing.invoices.service import settle_invoice
from chappe_billing.ledger.postings import Rail
from chappe_billing.payments import applying
from chappe_billing.payments.models import DisputeState
from chappe_billing.payments.port import DisputeSeen, Subject
from tests.billing.conftest import Customer
from tests.invoices.test_groups import group_of
from tests.invoices.test_year import SUMS
from tests.payments.collecting import GROSS_MINOR, GROSS_NANO, Collector
from tests.payments.test_withdrawing import requests, transfer
from tests.payments.world import DISPUTED_CARD, GOOD_CARD, REFUSED_ONCE_SAVED, card


async def _lose(collector: Collector, number: str = DISPUTED_CARD) -> tuple[Customer, UUID]:
    """Collected by a card whose holder says no, and the bank gives it back; told several times."""
    customer, invoice_id = await collector.with_card(number)
    await collector.collect()
    await collector.world.hear_all()
    assert await collector.open_nano(invoice_id) == 0
    await decide(collector, "lost")
    return customer, invoice_id


async def decide(collector: Collector, outcome: str) -> None:
    [(dispute,)] = await collector.world.sql("SELECT service_id FROM payment_dispute")
    await collector.world.stripe.switch("decide-dispute", dispute=dispute, outcome=outcome)
    bodies = await collector.world.events()
    for body in [*bodies[::-1], *bodies]:
        await collector.world.hear(body)


async def tell_again(collector: Collector, state: DisputeState) -> None:
    """What the local Stripe cannot play: a dispute that is decided otherwise later on. Twice."""
    [(dispute,)] = await collector.world.sql("SELECT service_id FROM payment_dispute")
    service = await collector.world.office.service()
    assert service is not None
    seen = await service.look(Subject.DISPUTE, str(dispute))
    assert isinstance(seen, DisputeSeen)
    for _ in range(2):
        async with collector.world.database.operator() as session:
            await applying.apply(session, structs.replace(seen, state=state), live=False)


async def assert_sums(collector: Collector, open_nano: int) -> None:
    """Invoices, unbilled and written off are what was charged; and what is open is all that was not settled."""
    used = "SELECT -sum(amount_nano) FROM ledger_entry JOIN ledger_transaction t ON t.id = transaction_id "
    used += "JOIN ledger_account a ON a.id = account_id WHERE t.kind = 'usage' AND a.kind = 'tenant_funds'"
    assert await collector.world.sql(used) == [(await collector.office.market.scalar(SUMS),)]
    [(gross, settled)] = await collector.world.sql(
        "SELECT (SELECT sum(gross_minor) * 10000000 FROM invoice WHERE kind = 'invoice'), "
        "(SELECT coalesce(sum(amount_nano), 0) FROM invoice_settlement)"
    )
    assert gross - settled == open_nano
    await collector.verify()


async def test_it_is_open_again_and_dunning_knows(collector: Collector) -> None:
    _, invoice_id = await _lose(collector)
    assert await collector.open_nano(invoice_id) == GROSS_NANO
    assert await collector.told() == [
        ("payment.succeeded", str(invoice_id), "2.520000000"),
        ("payment.failed", str(invoice_id), "2.520000000"),
    ]
    assert await collector.collect() == 0, "only dunning wants it again"
    assert await collector.dun_after_a_failure() == 1
    assert await collector.world.sql("SELECT kind, open_nano FROM dunning_step") == [("retry", GROSS_NANO)]
    await assert_sums(collector, GROSS_NANO)


@pytest.mark.parametrize("other", [False, True])
async def test_it_is_collected_by_another_method_and_never_by_the_disputed_one(
    collector: Collector, *, other: bool
) -> None:
    customer, invoice_id = await _lose(collector)
    if other:
        await collector.save(customer, **card(GOOD_CARD))
    await collector.dun_after_a_failure()
    await collector.world.office.collect_again()
    await collector.world.work()
    if not other:
        assert await requests(collector) == [("open", GROSS_MINOR)]
        await transfer(collector, customer)
    await collector.world.hear_all()
    assert (await collector.open_nano(invoice_id), await collector.states()) == (0, ["succeeded", "succeeded"])
    charged = await collector.world.sql("SELECT parameters ->> 'method_id' FROM payment_call WHERE kind = 'charge'")
    assert len(set(charged)) == len(charged) == 1 + other
    await assert_sums(collector, 0)


async def test_it_is_paid_by_hand(collector: Collector) -> None:
    _, invoice_id = await _lose(collector)
    async with collector.world.database.operator() as session:
        await settle_invoice(session, invoice_id, amount_nano=GROSS_NANO, reference="a", rail=Rail.BANK_TRANSFER)
    await collector.dun_after_a_failure()
    assert await collector.world.office.collect_again() == 0
    assert await collector.open_nano(invoice_id) == 0
    await assert_sums(collector, 0)


async def test_a_dispute_that_is_won_after_it_was_paid_anew_is_credit(collector: Collector) -> None:
    """A bank may change its mind, after the customer has paid another way: the second money is theirs, and told."""
    customer, invoice_id = await _lose(collector)
    async with collector.world.database.operator() as session:
        await settle_invoice(session, invoice_id, amount_nano=GROSS_NANO, reference="a", rail=Rail.BANK_TRANSFER)
    await tell_again(collector, DisputeState.WON)
    assert await collector.office.funds(customer) == 1 + GROSS_NANO
    await assert_sums(collector, 0)
    [credited] = await collector.world.sql(
        "SELECT payload ->> 'credited' FROM outbox WHERE topic = 'payment.succeeded' ORDER BY id DESC LIMIT 1"
    )
    assert credited == ("2.520000000",)


async def test_a_second_failure_after_a_lost_dispute_is_tried_again(collector: Collector) -> None:
    """The first try was for a card that was refused: its step is taken, and the dispute's is another one."""
    customer, invoice_id = await collector.with_card(REFUSED_ONCE_SAVED)
    await collector.collect()
    await collector.dun_after_a_failure()
    await collector.save(customer, **card(DISPUTED_CARD))
    await collector.choose_newest_method(customer)
    await collector.world.office.collect_again()
    await collector.world.work()
    await collector.world.hear_all()
    assert await collector.open_nano(invoice_id) == 0
    await decide(collector, "lost")
    assert await collector.dun_after_a_failure() == 1
    steps = await collector.world.sql("SELECT kind, level FROM dunning_step ORDER BY level")
    assert steps == [("retry", 1), ("retry", 2)]
    await assert_sums(collector, GROSS_NANO)


async def test_all_parts_of_a_groups_invoice_open_again(collector: Collector) -> None:
    """A payment of a group's invoice is a transaction for each tenant: the bank takes all of them back."""
    parent, child = await group_of(collector.office, collector.make_buyer)
    await collector.save(parent, **card(DISPUTED_CARD))
    await collector.office.use(child, times=5)
    await collector.office.use(parent, times=5)
    (issued,) = await collector.office.issue(parent)
    await collector.collect()
    await collector.world.hear_all()
    assert await collector.open_nano(issued.id) == 0
    await decide(collector, "lost")
    assert await collector.world.sql("SELECT reason FROM payment_quarantine") == []
    assert await collector.open_nano(issued.id) == GROSS_NANO
    kinds = await collector.world.sql("SELECT kind, count(*), sum(amount_nano) FROM invoice_settlement GROUP BY 1")
    assert sorted(kinds) == [("payment", 2, GROSS_NANO), ("reopened", 2, -GROSS_NANO)]
    await collector.verify()
