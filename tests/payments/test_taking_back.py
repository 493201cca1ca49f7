"""Refunds, disputes and saved methods: what goes back goes back once, with its tax, and never more than came."""

import pytest

from chappe_billing.payments import queries, service
from chappe_kernel.errors import Conflict, Invalid, NotFound
from tests.payments.world import (
    DISPUTED_CARD,
    GOOD_CARD,
    REFUND_FAILS_CARD,
    PaymentWorld,
)

_EUR = 10**9


async def _tax(world: PaymentWorld) -> int:
    [(tax,)] = await world.sql(
        "SELECT coalesce(sum(e.amount_nano), 0)::bigint FROM ledger_entry e "
        "JOIN ledger_account a ON a.id = e.account_id WHERE a.kind = 'vat_payable'"
    )
    return int(tax)


async def test_a_refund_holds_the_money_at_once_and_pays_it_out(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment = await world.topped_up(scope, 100)
    await world.refund(payment, 3_333)
    assert await world.balance_nano(scope) == 100 * _EUR - 27_775_000_000
    assert await world.sql("SELECT state FROM payment_refund") == [("asked",)]
    await world.work()
    await world.hear_all()
    assert await world.sql("SELECT state FROM payment_refund") == [("succeeded",)]
    [refund] = (await (await world.client()).v1.refunds.list_async()).data
    assert refund.amount == 3_333
    await world.assert_sound()


async def test_refunds_in_parts_take_all_and_no_more(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment = await world.topped_up(scope, 100)
    for part in (1, 3_333, 4_567):
        await world.refund(payment, part)
    await world.refund(payment)
    with pytest.raises(Invalid):
        await world.refund(payment, 1)
    await world.work()
    assert (await world.balance_nano(scope), await _tax(world)) == (0, 0)
    found = (await (await world.client()).v1.refunds.list_async()).data
    assert sum(refund.amount for refund in found) == 12_000
    await world.assert_sound()


async def test_a_refund_that_fails_gives_the_money_back(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment = await world.topped_up(scope, 100, REFUND_FAILS_CARD)
    await world.refund(payment)
    await world.work()
    await world.stripe.switch("clock", advance_s=86_400)
    await world.hear_all()
    await world.hear_all()
    assert await world.sql("SELECT state FROM payment_refund") == [("failed",)]
    assert (await world.balance_nano(scope), await _tax(world)) == (100 * _EUR, 20 * _EUR)
    await world.refund(payment, 100)
    await world.assert_sound()


async def test_what_is_spent_is_not_refunded(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment = await world.topped_up(scope, 100)
    await world.sql("UPDATE budget SET posted_nano = 60000000000 WHERE tenant_id = :id", id=scope.tenant_id)
    with pytest.raises(Invalid, match="free"):
        await world.refund(payment)
    await world.refund(payment, 4_800)


async def test_a_refund_of_the_same_id_is_done_once(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment = await world.topped_up(scope, 100)
    asked = service.RefundAsked(refund_id=payment.id, gross_minor=1_200, reason="asked for")
    for _ in range(3):
        async with world.database.tenant(scope) as session:
            await service.refund_own(session, scope, payment.id, asked)
    assert await world.balance_nano(scope) == 90 * _EUR


async def test_another_tenants_payment_is_not_refunded(world: PaymentWorld) -> None:
    payment = await world.topped_up(await world.buyer(), 100)
    thief = await world.buyer()
    asked = service.RefundAsked(refund_id=payment.id, gross_minor=None, reason="mine")
    with pytest.raises(NotFound):
        async with world.database.tenant(thief) as session:
            await service.refund_own(session, thief, payment.id, asked)


async def test_a_lost_dispute_is_debt_and_a_won_one_gives_it_back(world: PaymentWorld) -> None:
    scope = await world.buyer()
    payment = await world.topped_up(scope, 100, DISPUTED_CARD)
    await world.hear_all()
    [(dispute, state)] = await world.sql("SELECT service_id, state FROM payment_dispute")
    assert (state, await world.balance_nano(scope)) == ("open", 100 * _EUR)
    with pytest.raises(Conflict):
        await world.refund(payment)
    await world.sql("UPDATE budget SET posted_nano = 60000000000 WHERE tenant_id = :id", id=scope.tenant_id)
    await world.stripe.switch("decide-dispute", dispute=dispute, outcome="lost")
    await world.hear_all()
    assert await world.sql("SELECT state FROM payment_dispute") == [("lost",)]
    assert (await world.balance_nano(scope), await _tax(world)) == (-60 * _EUR, 0)


async def test_a_won_dispute_changes_no_balance(world: PaymentWorld) -> None:
    scope = await world.buyer()
    await world.topped_up(scope, 100, DISPUTED_CARD)
    await world.hear_all()
    [(dispute,)] = await world.sql("SELECT service_id FROM payment_dispute")
    await world.stripe.switch("decide-dispute", dispute=dispute, outcome="won")
    await world.hear_all()
    assert await world.sql("SELECT state FROM payment_dispute") == [("won",)]
    assert await world.balance_nano(scope) == 100 * _EUR
    await world.assert_sound()


async def test_a_saved_method_is_listed_and_removed_here_and_there(world: PaymentWorld) -> None:
    scope = await world.buyer()
    await world.save_card(scope)
    async with world.database.tenant(scope) as session:
        [method] = await queries.list_methods(session, scope)
    assert (method.label, method.is_default, method.expires) == ("Visa •••• 4242", True, "2034-12")
    async with world.database.tenant(scope) as session:
        await service.remove_method(session, scope, method.service_id)
    await world.work()
    await world.hear_all()
    assert (
        await (await world.client()).v1.payment_methods.list_async({"customer": await world.customer(scope)})
    ).data == []
    async with world.database.tenant(scope) as session:
        assert await queries.list_methods(session, scope) == []


async def test_another_tenants_method_is_neither_chosen_nor_removed(world: PaymentWorld) -> None:
    owner, thief = await world.buyer(), await world.buyer()
    await world.save_card(owner, GOOD_CARD)
    async with world.database.tenant(owner) as session:
        [method] = await queries.list_methods(session, owner)
    for act in (service.choose_method, service.remove_method):
        with pytest.raises(NotFound):
            async with world.database.tenant(thief) as session:
                await act(session, thief, method.service_id)
