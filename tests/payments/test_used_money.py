"""What an invoice has used of a payment is not paid back, and what the bank takes back though it was spent is debt."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_billing.credit_notes.service import credit
from chappe_billing.funds.moving import most_refundable, split_gross, unused_of
from chappe_billing.funds.service import Movement, move_funds
from chappe_billing.ledger.postings import TransactionKind
from chappe_billing.payments.models import Payment
from chappe_kernel.errors import ChappeError, InsufficientFunds, Invalid
from tests.billing.conftest import Customer
from tests.invoices.conftest import CENT, EURO
from tests.payments.collecting import Collector
from tests.payments.world import DISPUTED_CARD, GOOD_CARD

_NET = 5 * EURO
_USED = 210 * CENT
_UNUSED_GROSS_MINOR = 348


@given(
    net=st.integers(1, 10**12),
    percent=st.integers(0, 30),
    share=st.integers(0, 1000),
    parts=st.lists(st.integers(1, 1000), max_size=6),
)
def test_refunds_in_any_parts_leave_what_was_used_and_its_tax(
    net: int, percent: int, share: int, parts: list[int]
) -> None:
    tax, used = net * percent // 100, net * share // 1000
    left_net, left_tax = net, tax
    for part in [*parts, 1000]:
        most = most_refundable(left_net_nano=left_net, left_tax_nano=left_tax, used_nano=used)
        gross = most * part // 1000
        if gross == 0:
            continue
        bound = unused_of(left_net_nano=left_net, left_tax_nano=left_tax, used_nano=used)
        taken = split_gross(gross, left_net_nano=left_net, left_tax_nano=left_tax)
        assert taken.net_nano <= bound.net_nano
        assert taken.tax_nano <= bound.tax_nano
        left_net, left_tax = left_net - taken.net_nano, left_tax - taken.tax_nano
    assert used <= left_net <= used + 1
    assert left_tax >= tax * used // net - len(parts) - 1
    if used == 0:
        assert (left_net, left_tax) == (0, 0)


async def _advance(collector: Collector, number: str = GOOD_CARD) -> tuple[Customer, Payment]:
    """5 euros that were paid with their tax, and 2.10 of them used."""
    customer = await collector.make_buyer()
    payment = await collector.world.topped_up(customer.scope, 5, number)
    await collector.office.use(customer, times=10)
    return customer, payment


async def test_what_an_invoice_used_is_not_refunded(collector: Collector) -> None:
    """Though the funds are there: they are another payment's."""
    customer, payment = await _advance(collector)
    await collector.world.topped_up(customer.scope, 50)
    (issued,) = await collector.office.issue(customer)
    for too_much in (_UNUSED_GROSS_MINOR + 1, 600):
        with pytest.raises(Invalid):
            await collector.world.refund(payment, too_much)
    await collector.world.refund(payment, 100)
    await collector.world.refund(payment)
    with pytest.raises(Invalid):
        await collector.world.refund(payment, 1)
    assert await _refunded(collector) == _UNUSED_GROSS_MINOR
    async with collector.world.database.operator() as session:
        await credit(session, issued.id, reference="given back", reason="agreed")
    await collector.world.refund(payment)
    assert await _refunded(collector) == 600
    await collector.verify()


@pytest.mark.parametrize("tax_cents", [None, 0, 100])
async def test_the_operator_cannot_refund_it_by_hand_either(collector: Collector, tax_cents: int | None) -> None:
    customer, payment = await _advance(collector)
    await collector.world.topped_up(customer.scope, 50)
    await collector.office.issue(customer)
    net = _NET - _USED + (1 if tax_cents != 100 else 0)
    asked = Movement(
        kind=TransactionKind.REFUND,
        amount_nano=net,
        tax_nano=None if tax_cents is None else tax_cents * CENT,
        reference="by hand",
        reason="asked for",
        payment=payment.transaction_id,
    )
    with pytest.raises(Invalid):
        async with collector.world.database.operator() as session:
            await move_funds(session, customer.tenant_id, asked)
    await collector.verify()


async def test_of_a_refund_and_an_invoice_at_once_each_sees_the_other(collector: Collector) -> None:
    for _ in range(3):
        customer, payment = await _advance(collector)
        await collector.world.topped_up(customer.scope, 50)
        done = await asyncio.gather(
            collector.office.issue(customer), collector.world.refund(payment, 600), return_exceptions=True
        )
        assert all(not isinstance(one, BaseException) or isinstance(one, ChappeError) for one in done), done
    rows = await collector.world.sql(
        "SELECT p.net_nano, coalesce((SELECT sum(amount_nano) FROM invoice_funding f "
        "WHERE f.funding_id = p.transaction_id), 0), coalesce((SELECT sum(net_nano) FROM payment_refund r "
        "WHERE r.payment_id = p.id AND r.state <> 'failed'), 0) FROM payment p"
    )
    assert len(rows) == 6
    assert all(used + refunded <= net for net, used, refunded in rows)
    await collector.verify()


@pytest.mark.parametrize("invoiced", [False, True])
async def test_a_lost_dispute_of_what_was_spent_is_debt_until_it_is_paid(
    collector: Collector, *, invoiced: bool
) -> None:
    """Row 29 of the faults, from Stripe's word to the gateway's grant."""
    customer, _ = await _advance(collector, DISPUTED_CARD)
    if invoiced:
        await collector.office.issue(customer)
    # Its holder disputed it at once, and the bank decides later.
    await collector.world.hear_all()
    assert (await collector.office.market.ask(customer, CENT)).amount_nano == CENT
    history = await _history(collector)
    [(dispute,)] = await collector.world.sql("SELECT service_id FROM payment_dispute")
    await collector.world.stripe.switch("decide-dispute", dispute=dispute, outcome="lost")
    for _ in range(2):
        await collector.world.hear_all()
    debt = _USED if invoiced else _USED + 670
    assert await collector.office.available(customer) == 1 - debt
    for minimum in (0, 1):
        with pytest.raises(InsufficientFunds):
            await collector.office.market.ask(customer, CENT, minimum)
    assert (await _history(collector))[: len(history)] == history
    await collector.world.topped_up(customer.scope, 50)
    assert await collector.office.available(customer) == 50 * EURO + 1 - debt
    assert (await collector.office.market.ask(customer, CENT)).amount_nano == CENT
    await collector.verify()


async def _refunded(collector: Collector) -> int:
    [(total,)] = await collector.world.sql("SELECT sum(gross_minor) FROM payment_refund")
    return int(total)


async def _history(collector: Collector) -> list[tuple[object, ...]]:
    rows = await collector.world.sql(
        "SELECT e.* FROM ledger_entry e JOIN ledger_transaction t ON t.id = e.transaction_id "
        "ORDER BY t.created_at, t.id, e.line"
    )
    return list(rows)
