"""A top-up is credited once, without its tax, whatever becomes of the page and whatever Stripe tells how often."""

import random

import pytest

from chappe_billing.payments.models import Method
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import PAYMENT, encode_id
from tests.payments.world import REFUSED_CARD, PaymentWorld, card

_EUR = 10**9


async def test_a_paid_page_credits_the_net_amount_and_owes_the_tax(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment = await world.topped_up(scope, 100)
    assert (payment.state, payment.gross_minor, payment.tax_nano) == ("succeeded", 12_000, 20 * _EUR)
    assert await world.balance_nano(scope) == 100 * _EUR
    lines = await world.sql(
        "SELECT a.kind, e.amount_nano FROM ledger_entry e JOIN ledger_account a ON a.id = e.account_id "
        "WHERE e.transaction_id = :id ORDER BY e.line",
        id=payment.transaction_id,
    )
    assert lines == [("tenant_funds", 100 * _EUR), ("payment_clearing", -120 * _EUR), ("vat_payable", 20 * _EUR)]
    [(reference, rail)] = await world.sql(
        "SELECT reference, rail FROM ledger_transaction WHERE id = :id", id=payment.transaction_id
    )
    assert (reference, rail) == (f"stripe {payment.intent_id}", "card")
    await world.assert_sound()


async def test_whoever_has_just_asked_gets_their_page_before_what_waits_already(world: PaymentWorld) -> None:
    """Two rounds, newest first: a customer, and what waits for it."""
    buyers = [await world.buyer() for _ in range(12)]
    payments = [await world.ask(scope) for scope in buyers]
    for _ in range(2):
        assert await world.office.carry_out_due(newest_first=True) == 8
    states = [(await world.payment(*asked)).state for asked in zip(buyers, payments, strict=True)]
    assert states == ["asked"] * 4 + ["open"] * 8


async def test_a_webhook_a_hundred_times_reordered_credits_once(world: PaymentWorld) -> None:
    """Row 13 of the faults: 100 copies of everything, in any order."""
    scope = await world.buyer()
    await world.pay(scope, 100)
    bodies = await world.events() * 100
    random.Random(13).shuffle(bodies)  # noqa: S311 -- an order, and no secret
    effects = await world.hear(*bodies[:400])
    await world.hear_all()
    assert effects.count("succeeded") == 1
    assert await world.balance_nano(scope) == 100 * _EUR
    await world.assert_sound()


async def test_a_refused_card_credits_nothing_and_another_may_do(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment_id = await world.ask(scope)
    url = await world.page_of(scope, payment_id)
    await world.stripe.submit(url, **card(REFUSED_CARD))
    await world.hear_all()
    assert (await world.payment(scope, payment_id)).state == "open"
    assert await world.balance_nano(scope) == 0
    await world.stripe.submit(url, **card())
    await world.hear_all()
    assert await world.balance_nano(scope) == 100 * _EUR


async def test_an_abandoned_page_expires_and_credits_nothing(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment_id = await world.ask(scope)
    await world.page_of(scope, payment_id)
    await world.stripe.switch("clock", advance_s=25 * 3600)
    await world.hear_all()
    assert (await world.payment(scope, payment_id)).state == "expired"
    assert await world.balance_nano(scope) == 0


async def test_a_page_that_is_paid_twice_credits_once(world: PaymentWorld) -> None:
    scope = await world.buyer()
    url = await world.begin(scope)
    await world.stripe.submit(url, **card())
    await world.stripe.submit(url, **card())
    await world.hear_all()
    assert await world.balance_nano(scope) == 100 * _EUR


async def test_a_payment_that_was_thought_expired_counts_when_it_is_paid(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment_id = await world.pay(scope)
    await world.sql("UPDATE payment SET state = 'expired' WHERE id = :id", id=payment_id)
    await world.hear_all()
    assert (await world.payment(scope, payment_id)).state == "succeeded"
    assert await world.balance_nano(scope) == 100 * _EUR


@pytest.mark.parametrize(
    ("amount", "currency", "reason"), [(11_999, "eur", "wrong_amount"), (12_000, "usd", "wrong_currency")]
)
async def test_money_that_is_not_what_was_asked_for_is_quarantined_and_never_credited(
    world: PaymentWorld, amount: int, currency: str, reason: str
) -> None:
    scope = await world.buyer()
    payment_id = await world.ask(scope)
    await world.page_of(scope, payment_id)
    await (await world.client()).v1.payment_intents.create_async(
        {
            "amount": amount,
            "currency": currency,
            "customer": await world.customer(scope),
            "payment_method": "pm_card_visa",
            "allowed_payment_method_types": ["card"],
            "confirm": True,
            "metadata": {"chappe_payment": encode_id(PAYMENT, payment_id)},
        }
    )
    await world.hear_all()
    assert (await world.payment(scope, payment_id)).state == "quarantined"
    assert await world.balance_nano(scope) == 0
    assert await world.sql("SELECT reason, amount_minor FROM payment_quarantine") == [(reason, amount)]


async def test_money_that_nobody_asked_for_is_quarantined(world: PaymentWorld) -> None:
    paid = {
        "amount": 500,
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "allowed_payment_method_types": ["card"],
    }
    await (await world.client()).v1.payment_intents.create_async({**paid, "confirm": True})  # type: ignore[typeddict-item]
    await world.hear_all()
    assert await world.sql("SELECT reason, amount_minor FROM payment_quarantine") == [("unknown_payment", 500)]


async def test_a_payment_method_crossed_with_another_order_credits_neither(world: PaymentWorld) -> None:
    """As in new-api's CVE-2026-41432: somebody's payment that says it is another's."""
    victim, thief = await world.buyer(), await world.buyer()
    large = await world.ask(victim, 1000)
    await world.page_of(victim, large)
    await world.save_card(thief)
    await (await world.client()).v1.payment_intents.create_async(
        {
            "amount": 120_000,
            "currency": "eur",
            "customer": await world.customer(thief),
            "payment_method": "pm_card_visa",
            "allowed_payment_method_types": ["card"],
            "confirm": True,
            "metadata": {"chappe_payment": encode_id(PAYMENT, large)},
        }
    )
    await world.hear_all()
    assert await world.balance_nano(victim) == 0
    assert (await world.payment(victim, large)).state == "open"
    assert await world.balance_nano(thief) == 0
    assert await world.sql("SELECT reason FROM payment_quarantine") == [("wrong_customer",)]


@pytest.mark.parametrize("units", [4, 10_001])
async def test_an_amount_out_of_bounds_is_refused(world: PaymentWorld, units: int) -> None:
    with pytest.raises(Invalid):
        await world.ask(await world.buyer(), units)


async def test_no_payment_is_begun_while_the_tax_is_undecided(world: PaymentWorld) -> None:
    scope = await world.buyer("DE")
    await world.sql("UPDATE tenant SET vat_number = 'DE123456789' WHERE id = :id", id=scope.tenant_id)
    with pytest.raises(Conflict, match="VAT number is still being checked"):
        await world.ask(scope)


@pytest.mark.parametrize("mode", ["external", "none"])
async def test_an_entity_that_does_not_collect_by_stripe_takes_no_payment(world: PaymentWorld, mode: str) -> None:
    scope = await world.buyer()
    await world.sql("UPDATE legal_entity SET payments = :mode", mode=mode)
    with pytest.raises(Conflict) as raised:
        await world.ask(scope)
    assert raised.value.code == "payments_not_offered"


async def test_a_debit_is_pending_until_it_settles(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment_id = await world.ask(scope, method=Method.SEPA_DEBIT)
    debit = {"type": "sepa_debit", "iban": "DE08370400440532013003", "account_name": "Ada", "email": "ada@example.eu"}
    await world.stripe.submit(await world.page_of(scope, payment_id), **debit)
    await world.hear_all()
    assert (await world.payment(scope, payment_id)).state == "processing"
    assert await world.balance_nano(scope) == 0
    await world.stripe.switch("clock", advance_s=14 * 86_400)
    await world.hear_all()
    assert await world.balance_nano(scope) == 100 * _EUR
    [(rail,)] = await world.sql("SELECT rail FROM ledger_transaction WHERE kind = 'top_up'")
    assert rail == "direct_debit"


async def test_a_transfer_is_credited_when_it_arrives(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment_id = await world.ask(scope, method=Method.BANK_TRANSFER)
    await world.stripe.submit(await world.page_of(scope, payment_id), type="customer_balance")
    await world.hear_all()
    assert await world.balance_nano(scope) == 0
    await world.stripe.switch("transfer", customer=await world.customer(scope), amount=12_000, currency="eur")
    await world.hear_all()
    assert await world.balance_nano(scope) == 100 * _EUR
    assert (await world.payment(scope, payment_id)).method == "bank_transfer"
