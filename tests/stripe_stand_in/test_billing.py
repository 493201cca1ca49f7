"""Invoices, meters and the billing portal."""

from typing import Any

import pytest
from stripe import CardError, InvalidRequestError, StripeClient

from tests.stripe_server import LocalStripe
from tests.stripe_stand_in import doing

BY_TRANSFER: Any = {
    "collection_method": "send_invoice",
    "days_until_due": 30,
    "payment_settings": {
        "payment_method_types": ["customer_balance"],
        "payment_method_options": doing.TRANSFER,
    },
}


async def test_an_invoice_is_charged_to_the_default_method(client: StripeClient) -> None:
    who = await doing.customer(client)
    card = await doing.saved_card(client, who.id)
    await client.v1.customers.update_async(who.id, {"invoice_settings": {"default_payment_method": card}})
    draft = await doing.invoice(client, who.id, 700, metadata={"number": "FR-1"})
    opened = await client.v1.invoices.finalize_invoice_async(draft.id)
    assert (opened.status, opened.total, opened.amount_due) == ("open", 700, 700)
    paid = await client.v1.invoices.pay_async(draft.id, {"expand": ["payments"]})
    assert paid.payments is not None
    (payment,) = paid.payments.data
    assert (paid.status, paid.amount_paid, paid.amount_remaining, payment.status) == ("paid", 700, 0, "paid")
    with pytest.raises(InvalidRequestError):
        await client.v1.invoices.pay_async(draft.id)
    kinds = await doing.event_types(client, "invoice.finalized", "invoice.paid", "invoice.payment_succeeded")
    assert kinds == ["invoice.finalized", "invoice.paid", "invoice.payment_succeeded"]


async def test_a_declined_invoice_stays_open_and_counts_its_attempts(client: StripeClient) -> None:
    who = await doing.customer(client)
    card = await doing.saved_card(client, who.id, "pm_card_chargeCustomerFail")
    draft = await doing.invoice(client, who.id)
    for attempts in (1, 2):
        with pytest.raises(CardError):
            await client.v1.invoices.pay_async(draft.id, {"payment_method": card})
        failed = await client.v1.invoices.retrieve_async(draft.id)
        # Of a draft the first attempt finalizes it.
        assert (failed.status, failed.attempt_count) == ("open", attempts)


async def test_an_invoice_by_transfer_is_paid_when_the_money_arrives(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    draft = await doing.invoice(client, who.id, 5000, **BY_TRANSFER)
    sent = await client.v1.invoices.send_invoice_async(draft.id, {"expand": ["payments.data.payment.payment_intent"]})
    assert sent.due_date is not None and sent.payments is not None
    finalized = sent.status_transitions.finalized_at
    assert finalized is not None
    assert (sent.status, sent.due_date - finalized) == ("open", 30 * 86_400)
    intent: Any = sent.payments.data[0].payment.payment_intent
    assert intent.next_action.display_bank_transfer_instructions.amount_remaining == 5000
    await stripe.switch("transfer", customer=who.id, amount=4000)
    assert (await client.v1.invoices.retrieve_async(draft.id)).status == "open"
    await stripe.switch("transfer", customer=who.id, amount=1000)
    assert (await client.v1.invoices.retrieve_async(draft.id)).status == "paid"


async def test_a_void_invoice_is_paid_no_more(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    draft = await doing.invoice(client, who.id, 800, **BY_TRANSFER)
    await client.v1.invoices.finalize_invoice_async(draft.id)
    void = await client.v1.invoices.void_invoice_async(draft.id)
    assert void.status == "void"
    await stripe.switch("transfer", customer=who.id, amount=800)
    assert (await client.v1.invoices.retrieve_async(draft.id)).status == "void"
    cash = await client.v1.customers.cash_balance.retrieve_async(who.id)
    assert cash.to_dict()["available"] == {"eur": 800}


async def test_a_finalized_invoice_is_not_edited(client: StripeClient) -> None:
    who = await doing.customer(client)
    draft = await doing.invoice(client, who.id)
    opened = await client.v1.invoices.finalize_invoice_async(draft.id)
    with pytest.raises(InvalidRequestError) as caught:
        await client.v1.invoices.update_async(draft.id, {"description": "other"})
    assert caught.value.code == "invoice_not_editable"
    with pytest.raises(InvalidRequestError):
        await client.v1.invoice_items.create_async({"customer": who.id, "invoice": draft.id, "amount": 1})
    again = await client.v1.invoices.finalize_invoice_async((await doing.invoice(client, who.id)).id)
    assert opened.number and again.number and opened.number[-4:] == "0001" and again.number[-4:] == "0002"


async def test_pending_items_come_only_when_asked_for(client: StripeClient) -> None:
    who = await doing.customer(client)
    await client.v1.invoice_items.create_async({"customer": who.id, "amount": 100, "currency": "eur"})
    without = await client.v1.invoices.create_async({"customer": who.id})
    taken = await client.v1.invoices.create_async({"customer": who.id, "pending_invoice_items_behavior": "include"})
    assert (without.total, taken.total) == (0, 100)


async def test_an_invoice_that_advances_by_itself_is_charged(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    card = await doing.saved_card(client, who.id)
    draft = await doing.invoice(client, who.id, auto_advance=True, default_payment_method=card)
    await stripe.switch("clock", advance_s=3600)
    assert (await client.v1.invoices.retrieve_async(draft.id)).status == "paid"


async def test_an_invoices_page_takes_a_card_once(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    opened = await client.v1.invoices.finalize_invoice_async((await doing.invoice(client, who.id, 700)).id)
    page = str(opened.hosted_invoice_url)
    assert (await stripe.submit(page, **doing.card("4000000000000002"))).status_code == 402
    paid = [await stripe.submit(page, **doing.card("4242424242424242")) for _ in range(2)]
    assert [one.status_code for one in paid] == [303, 200]
    assert "This invoice is paid" in paid[1].text
    charges = await client.v1.charges.list_async({"customer": who.id})
    assert [charge.status for charge in charges.data] == ["succeeded", "failed"]


async def test_a_meter_event_counts_once(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    meter = await client.v1.billing.meters.create_async(
        {"display_name": "Nanos", "event_name": "nanos", "default_aggregation": {"formula": "sum"}}
    )
    start = who.created // 3600 * 3600
    event: Any = {
        "event_name": "nanos",
        "identifier": "batch-1",
        "payload": {"stripe_customer_id": who.id, "value": "25"},
        "timestamp": who.created,
    }

    async def total() -> float:
        window: Any = {"customer": who.id, "start_time": start, "end_time": start + 7200}
        found = await client.v1.billing.meters.event_summaries.list_async(meter.id, window)
        return sum(one.aggregated_value for one in found.data)

    async def record(**values: Any) -> None:
        given: Any = {**event, **values}
        await client.v1.billing.meter_events.create_async(given)

    await record()
    with pytest.raises(InvalidRequestError):
        await record()
    assert await total() == 25
    await record(identifier="batch-2")
    assert await total() == 50
    await stripe.switch("clock", advance_s=25 * 3600)
    await record()
    assert await total() == 75
    wrong: list[Any] = [{"event_name": "other"}, {"timestamp": who.created - 40 * 86_400}, {"payload": {"value": "1"}}]
    for values in wrong:
        with pytest.raises(InvalidRequestError):
            await record(identifier="x", **values)


async def test_the_portal_adds_and_removes_a_customers_own_methods(stripe: LocalStripe, client: StripeClient) -> None:
    who, other = await doing.customer(client), await doing.customer(client)
    foreign = await doing.saved_card(client, other.id)
    portal = await client.v1.billing_portal.sessions.create_async(
        {"customer": who.id, "return_url": "http://localhost:1/back"}
    )
    assert 'href="http://localhost:1/back"' in (await stripe.http.get(portal.url)).text
    await stripe.submit(portal.url, **doing.card("4242424242424242"))
    await stripe.submit(portal.url, **doing.account("DE89370400440532013000"))
    account, card = (await client.v1.customers.payment_methods.list_async(who.id)).data
    assert (account.type, card.type) == ("sepa_debit", "card")
    await stripe.submit(portal.url, default=card.id)
    seen = await client.v1.customers.retrieve_async(who.id)
    assert seen.invoice_settings is not None and seen.invoice_settings.default_payment_method == card.id
    for method in (card.id, foreign):
        await stripe.submit(portal.url, remove=method)
    left = await client.v1.customers.payment_methods.list_async(who.id)
    assert [method.id for method in left.data] == [account.id]
    seen = await client.v1.customers.retrieve_async(who.id)
    assert seen.invoice_settings is not None and seen.invoice_settings.default_payment_method is None
    assert len((await client.v1.customers.payment_methods.list_async(other.id)).data) == 1
    await stripe.switch("clock", advance_s=3600)
    assert (await stripe.submit(portal.url, remove=account.id)).status_code == 404
