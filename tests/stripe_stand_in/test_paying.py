"""Money comes by card, debit and transfer, or does not, in the states and with the events that Stripe documents."""

from typing import Any

import pytest
from stripe import CardError, InvalidRequestError, StripeClient

from chappe_local.stripe_stand_in.instruments import all_test_instruments
from tests.stripe_server import LocalStripe
from tests.stripe_stand_in import doing


async def test_a_card_pays_and_its_fee_is_taken(client: StripeClient) -> None:
    intent = await doing.paid(client, 1000, expand=["latest_charge.balance_transaction"], metadata={"order": "7"})
    charge: Any = intent.latest_charge
    assert (intent.status, intent.amount_received, charge.status, charge.metadata["order"]) == (
        *("succeeded", 1000, "succeeded", "7"),
    )
    moved = charge.balance_transaction
    assert (moved.amount, moved.fee, moved.net) == (1000, 40, 960)
    assert await doing.event_types(client) == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
    ],
)
async def test_a_declined_card_is_told_and_kept(client: StripeClient, card: str, code: str, decline_code: str) -> None:
    with pytest.raises(CardError) as caught:
        await doing.paid(client, card=card)
    error: Any = caught.value.error
    assert (caught.value.http_status, error.code, error.decline_code) == (402, code, decline_code)
    assert caught.value.request_id and caught.value.request_id.startswith("req_")
    intent = await client.v1.payment_intents.retrieve_async(error.payment_intent.id)
    assert (intent.status, intent.payment_method, intent.amount_received) == ("requires_payment_method", None, 0)
    assert intent.last_payment_error is not None and intent.last_payment_error.decline_code == decline_code
    charge = await client.v1.charges.retrieve_async(str(intent.latest_charge))
    assert (charge.status, charge.paid, charge.failure_code) == ("failed", False, code)
    assert await doing.event_types(client) == [
        *("payment_intent.created", "charge.failed", "payment_intent.payment_failed")
    ]


async def test_a_saved_card_is_charged_while_nobody_is_there(client: StripeClient) -> None:
    who = await doing.customer(client)
    card = await doing.saved_card(client, who.id)
    intent = await doing.paid(client, card=card, customer=who.id, off_session=True)
    assert (intent.status, intent.payment_method) == ("succeeded", card)
    await client.v1.payment_methods.detach_async(card)
    with pytest.raises(InvalidRequestError):
        await doing.paid(client, card=card, customer=who.id, off_session=True)


async def test_off_session_a_card_that_asks_for_authentication_fails(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    card = await doing.saved_card(client, who.id, "pm_card_authenticationRequiredOnSetup")
    with pytest.raises(CardError) as caught:
        await doing.paid(client, card=card, customer=who.id, off_session=True)
    assert caught.value.code == "authentication_required"
    # Once set up by its holder it goes without them.
    page = await doing.setup_session(client, who.id, "card")
    bank = await stripe.submit(str(page.url), **doing.card("4000002500003155"))
    await stripe.submit(bank.headers["location"], answer="pass")
    done = await client.v1.checkout.sessions.retrieve_async(page.id, {"expand": ["setup_intent"]})
    setup: Any = done.setup_intent
    intent = await doing.paid(client, card=setup.payment_method, customer=who.id, off_session=True)
    assert intent.status == "succeeded"


@pytest.mark.parametrize(("answer", "status"), [("pass", "succeeded"), ("fail", "requires_payment_method")])
async def test_authentication_leads_back(stripe: LocalStripe, client: StripeClient, answer: str, status: str) -> None:
    intent = await doing.paid(client, card="pm_card_authenticationRequired", return_url="http://localhost:1/back?a=1")
    assert intent.status == "requires_action"
    action: Any = intent.next_action
    shown = await stripe.submit(action.redirect_to_url.url, answer=answer)
    assert shown.status_code == 303
    assert shown.headers["location"].startswith(f"http://localhost:1/back?a=1&payment_intent={intent.id}&")
    assert (await client.v1.payment_intents.retrieve_async(intent.id)).status == status
    assert "nothing to authenticate" in (await stripe.submit(action.redirect_to_url.url, answer="pass")).text


async def test_any_card_is_refused_while_the_switch_says_so(stripe: LocalStripe, client: StripeClient) -> None:
    await stripe.switch("refuse-cards", times=1, decline_code="do_not_honor")
    with pytest.raises(CardError) as caught:
        await doing.paid(client)
    error: Any = caught.value.error
    assert error.decline_code == "do_not_honor"
    assert (await doing.paid(client)).status == "succeeded"


@pytest.mark.parametrize(
    ("iban", "status"),
    [("DE89370400440532013000", "succeeded"), ("DE62370400440532013001", "requires_payment_method")],
)
async def test_a_debit_is_decided_later(stripe: LocalStripe, client: StripeClient, iban: str, status: str) -> None:
    who = await doing.customer(client)
    account = await doing.saved_account(stripe, client, who.id, iban)
    intent = await doing.paid(client, card=account, customer=who.id, off_session=True)
    assert intent.status == "processing"
    await stripe.switch("clock", advance_s=1)
    intent = await client.v1.payment_intents.retrieve_async(intent.id, {"expand": ["latest_charge"]})
    charge: Any = intent.latest_charge
    assert (intent.status, charge.paid) == (status, status == "succeeded")


async def test_a_late_debit_takes_three_minutes(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    account = await doing.saved_account(stripe, client, who.id, "DE08370400440532013003")
    intent = await doing.paid(client, card=account, customer=who.id)
    for advance_s, status in ((170, "processing"), (10, "succeeded")):
        await stripe.switch("clock", advance_s=advance_s)
        assert (await client.v1.payment_intents.retrieve_async(intent.id)).status == status


async def test_a_transfer_pays_what_waits_for_it_oldest_first(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    waiting: Any = {
        "customer": who.id,
        "currency": "eur",
        "confirm": True,
        "payment_method_data": {"type": "customer_balance"},
        "payment_method_options": doing.TRANSFER,
        "allowed_payment_method_types": ["customer_balance"],
    }
    given: list[Any] = [{**waiting, "amount": amount} for amount in (1000, 500)]
    first, second = [await client.v1.payment_intents.create_async(one) for one in given]
    action: Any = first.next_action
    told = action.display_bank_transfer_instructions
    assert (told.amount_remaining, told.type) == (1000, "eu_bank_transfer")
    assert _is_iban(told.financial_addresses[0].iban.iban)
    await stripe.switch("transfer", customer=who.id, amount=600)
    first = await client.v1.payment_intents.retrieve_async(first.id)
    action = first.next_action
    assert action.display_bank_transfer_instructions.amount_remaining == 400
    await stripe.switch("transfer", customer=who.id, amount=1000)
    found = [(await client.v1.payment_intents.retrieve_async(one.id)).status for one in (first, second)]
    assert found == ["succeeded", "succeeded"]
    cash = await client.v1.customers.cash_balance.retrieve_async(who.id)
    assert cash.to_dict()["available"] == {"eur": 100}
    moves = await client.v1.customers.cash_balance_transactions.list_async(who.id)
    assert sum(move.net_amount for move in moves.data) == 100


async def test_canceling_gives_a_half_paid_transfer_back(stripe: LocalStripe, client: StripeClient) -> None:
    who = await doing.customer(client)
    page = await doing.session(
        client,
        1000,
        customer=who.id,
        allowed_payment_method_types=["customer_balance"],
        payment_method_options=doing.TRANSFER,
    )
    shown = await stripe.submit(str(page.url), type="customer_balance")
    assert "/transfer/" in shown.headers["location"]
    assert "IBAN" in (await stripe.http.get(shown.headers["location"])).text
    await stripe.switch("transfer", customer=who.id, amount=300)
    done = await client.v1.checkout.sessions.retrieve_async(page.id)
    assert (done.status, done.payment_status) == ("complete", "unpaid")
    await client.v1.payment_intents.cancel_async(str(done.payment_intent))
    cash = await client.v1.customers.cash_balance.retrieve_async(who.id)
    assert cash.to_dict()["available"] == {"eur": 300}


async def test_an_intent_is_changed_until_it_is_paid(client: StripeClient) -> None:
    given: Any = {"amount": 500, "currency": "eur", "metadata": {"a": "1"}, **doing.NO_REDIRECTS}
    intent = await client.v1.payment_intents.create_async(given)
    assert intent.status == "requires_payment_method"
    method: Any = {"payment_method": "pm_card_visa", "amount": 600, "metadata": {"b": "2"}}
    await client.v1.payment_intents.update_async(intent.id, method)
    paid = await client.v1.payment_intents.confirm_async(intent.id)
    assert (paid.status, paid.amount_received, paid.to_dict()["metadata"]) == ("succeeded", 600, {"a": "1", "b": "2"})
    with pytest.raises(InvalidRequestError):
        await client.v1.payment_intents.update_async(intent.id, {"amount": 700})
    found = await client.v1.payment_intents.search_async({"query": "status:'succeeded' AND metadata['b']:'2'"})
    assert [one.id for one in found.data] == [intent.id]


async def test_a_canceled_intent_is_not_paid(client: StripeClient) -> None:
    given: Any = {"amount": 500, "currency": "eur", "payment_method": "pm_card_visa", **doing.NO_REDIRECTS}
    intent = await client.v1.payment_intents.create_async(given)
    gone = await client.v1.payment_intents.cancel_async(intent.id, {"cancellation_reason": "abandoned"})
    assert (gone.status, gone.cancellation_reason) == ("canceled", "abandoned")
    with pytest.raises(InvalidRequestError):
        await client.v1.payment_intents.confirm_async(intent.id)


async def test_amounts_out_of_bounds_are_refused(client: StripeClient) -> None:
    for amount, code in ((49, "amount_too_small"), (100_000_000, "amount_too_large")):
        with pytest.raises(InvalidRequestError) as caught:
            await doing.paid(client, amount)
        assert (caught.value.code, caught.value.param) == (code, "amount")


async def test_a_paid_intent_is_neither_paid_again_nor_canceled(client: StripeClient) -> None:
    intent = await doing.paid(client)
    for act in (client.v1.payment_intents.confirm_async, client.v1.payment_intents.cancel_async):
        with pytest.raises(InvalidRequestError) as caught:
            await act(intent.id)
        assert caught.value.code == "payment_intent_unexpected_state"


async def test_what_stripe_removed_is_refused_in_its_words(client: StripeClient) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await doing.paid(client, payment_method_types=["card"])
    assert caught.value.code == "payment_method_types_no_longer_supported"
    with pytest.raises(InvalidRequestError) as caught:
        await doing.paid(client, automatic_payment_methods={"enabled": True})
    assert caught.value.param == "return_url"


async def test_no_number_but_a_test_number_is_taken(client: StripeClient) -> None:
    for number, code in (("4111111111111111", "card_declined"), ("4242424242424241", "incorrect_number")):
        with pytest.raises(CardError) as caught:
            await client.v1.payment_methods.create_async(
                {"type": "card", "card": {"number": number, "exp_month": 1, "exp_year": 2040, "cvc": "123"}}
            )
        assert caught.value.code == code
    with pytest.raises(InvalidRequestError):
        await client.v1.payment_methods.create_async(
            {
                "type": "sepa_debit",
                "sepa_debit": {"iban": "GB82WEST12345698765432"},
                "billing_details": {"name": "Ada", "email": "a@b.eu"},
            }
        )


def test_test_ibans_are_ibans() -> None:
    assert all(map(_is_iban, all_test_instruments()[1]))


def _is_iban(iban: str) -> bool:
    return int("".join(str(int(letter, 36)) for letter in f"{iban[4:]}{iban[:4]}")) % 97 == 1
