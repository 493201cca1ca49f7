"""Refunds and disputes: never more than was paid, and the balance is the sum of what moved."""

from typing import Any

import pytest
from stripe import InvalidRequestError, StripeClient

from tests.stripe_server import LocalStripe
from tests.stripe_stand_in import doing


async def nets(client: StripeClient) -> int:
    found = await client.v1.balance_transactions.list_async({"limit": 100})
    assert all(one.net == one.amount - one.fee for one in found.data)
    return sum(one.net for one in found.data)


async def test_refunds_add_up_to_the_payment_and_no_further(client: StripeClient) -> None:
    intent = await doing.paid(client, 1000)
    first = await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 300})
    assert (first.status, first.amount) == ("succeeded", 300)
    with pytest.raises(InvalidRequestError) as caught:
        await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 701})
    assert caught.value.param == "amount"
    rest = await client.v1.refunds.create_async({"charge": str(intent.latest_charge)})
    assert rest.amount == 700
    with pytest.raises(InvalidRequestError) as caught:
        await client.v1.refunds.create_async({"payment_intent": intent.id})
    assert caught.value.code == "charge_already_refunded"
    charge = await client.v1.charges.retrieve_async(str(intent.latest_charge), {"expand": ["refunds"]})
    assert charge.refunds is not None
    assert (charge.refunded, charge.amount_refunded, len(charge.refunds.data)) == (True, 1000, 2)
    assert await nets(client) == -40


async def test_a_refund_may_fail_after_all(stripe: LocalStripe, client: StripeClient) -> None:
    intent = await doing.paid(client, card="pm_card_refundFail")
    refund = await client.v1.refunds.create_async({"payment_intent": intent.id})
    assert refund.status == "succeeded"
    await stripe.switch("clock", advance_s=1)
    refund = await client.v1.refunds.retrieve_async(refund.id)
    assert (refund.status, refund.failure_reason) == ("failed", "expired_or_canceled_card")
    charge = await client.v1.charges.retrieve_async(str(intent.latest_charge))
    assert (charge.refunded, charge.amount_refunded) == (False, 0)
    assert await nets(client) == 960
    assert "refund.failed" in await doing.event_types(client)


async def test_a_dispute_takes_the_money_and_gives_it_back_if_won(stripe: LocalStripe, client: StripeClient) -> None:
    intent = await doing.paid(client, 1000)
    dispute = await stripe.switch("open-dispute", payment_intent=intent.id)
    assert (dispute["status"], dispute["amount"], await nets(client)) == ("needs_response", 1000, 960 - 1000 - 2000)
    with pytest.raises(InvalidRequestError) as caught:
        await client.v1.refunds.create_async({"payment_intent": intent.id})
    assert caught.value.code == "charge_disputed"
    won = await client.v1.disputes.update_async(dispute["id"], {"evidence": {"uncategorized_text": "winning_evidence"}})
    assert (won.status, len(won.balance_transactions), await nets(client)) == ("won", 2, 960 - 2000)
    kinds = [kind for kind in await doing.event_types(client) if kind.startswith("charge.dispute")]
    assert kinds == [
        *("charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.updated"),
        *("charge.dispute.funds_reinstated", "charge.dispute.closed"),
    ]


async def test_a_lost_dispute_stays_lost(stripe: LocalStripe, client: StripeClient) -> None:
    intent = await doing.paid(client)
    dispute = await stripe.switch("open-dispute", charge=str(intent.latest_charge), amount=400)
    lost = await stripe.switch("decide-dispute", dispute=dispute["id"], outcome="lost")
    assert (lost["status"], lost["amount"]) == ("lost", 400)
    with pytest.raises(InvalidRequestError):
        await client.v1.disputes.close_async(dispute["id"])


@pytest.mark.parametrize(("iban", "state"), [(None, "needs_response"), ("DE35370400440532013002", "lost")])
async def test_some_instruments_are_disputed_by_themselves(
    stripe: LocalStripe, client: StripeClient, iban: str | None, state: str
) -> None:
    who = await doing.customer(client)
    method = await doing.saved_account(stripe, client, who.id, iban) if iban else "pm_card_createDispute"
    intent = await doing.paid(client, card=method, customer=who.id)
    await stripe.switch("clock", advance_s=1)
    found: Any = (await client.v1.disputes.list_async({"payment_intent": intent.id})).data
    assert [one.status for one in found] == [state]
