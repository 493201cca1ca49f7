"""Money that nobody can attribute waits in suspense, and every nano of it leaves once: to a tenant, or back."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from uuid import UUID

import pytest

from chappe_billing.funds.once import Moved
from chappe_billing.ledger.postings import Rail
from chappe_billing.suspense import queries, service
from chappe_billing.suspense.queries import Payment, Settlement
from chappe_billing.suspense.service import Incoming, Part
from chappe_kernel.errors import ChappeError, Conflict, Invalid, NotFound
from chappe_kernel.ids import new_id
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.legal_entities.schemas import CreateLegalEntity
from chappe_tenants.legal_entities.service import create_entity
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.ledger.conftest import account, assert_intact, available, move, take_back

GIFT = 10_000_000_000


async def receive(market: Market, amount_nano: int = 5_000, reference: str = "bank 1", **more: object) -> Moved:
    values = {"legal_entity_id": DEFAULT_LEGAL_ENTITY_ID, "rail": Rail.BANK_TRANSFER, "note": "invoice?"} | more
    incoming = Incoming(amount_nano=amount_nano, reference=reference, **values)  # type: ignore[arg-type]  # a test may change any field
    async with market.database.operator() as session:
        return await service.receive(session, incoming)


async def assign(market: Market, payment_id: UUID, customer: Customer, amount_nano: int, reference: str) -> Moved:
    part = Part(amount_nano=amount_nano, reference=reference, reason="the payer called")
    async with market.database.operator() as session:
        return await service.assign(session, payment_id, customer.tenant_id, part)


async def send_back(market: Market, payment_id: UUID, amount_nano: int, reference: str) -> Moved:
    part = Part(amount_nano=amount_nano, reference=reference, reason="nobody knows the payer")
    async with market.database.operator() as session:
        return await service.send_back(session, payment_id, part)


async def undo(market: Market, transaction_id: UUID, reference: str = "undo 1") -> Moved:
    async with market.database.operator() as session:
        moved, _ = await service.take_back(session, transaction_id, reference=reference, reason="typed wrongly")
    return moved


async def read(market: Market, payment_id: UUID) -> Payment:
    async with market.database.audit() as session:
        return await service.get_payment(session, payment_id)


async def queue(market: Market, *, settled: bool = False) -> list[Payment]:
    async with market.database.audit() as session:
        return await queries.list_payments(session, settled=settled, limit=100)


async def settlements(market: Market, payment_id: UUID) -> list[Settlement]:
    async with market.database.audit() as session:
        return await queries.list_settlements(session, payment_id)


async def test_a_payment_waits_once_for_its_reference(market: Market) -> None:
    first, again = await receive(market), await receive(market)
    assert (first.repeated, again.repeated) == (False, True)
    (payment,) = await queue(market)
    assert (payment.id, payment.open_nano, payment.note, payment.rail) == (
        first.transaction_id,
        5_000,
        "invoice?",
        Rail.BANK_TRANSFER,
    )
    assert await account(market, "suspense") == 5_000 == -await account(market, "payment_clearing")
    with pytest.raises(Conflict) as refused:
        await receive(market, 6_000)
    assert refused.value.code == "reference_taken"
    await assert_intact(market)


async def test_a_reference_is_one_payment_whoever_has_it(market: Market, customer: Customer) -> None:
    await move(market, customer, "top_up", 5_000, "bank 1")
    with pytest.raises(Conflict):
        await receive(market)


async def test_another_entity_has_references_of_its_own(market: Market, customer: Customer) -> None:
    async with market.database.operator() as session:
        other = await create_entity(session, CreateLegalEntity(name="Chappe Schweiz AG", currency="CHF"))
    mine, its = await receive(market), await receive(market, legal_entity_id=other.id)
    assert mine.transaction_id != its.transaction_id
    assert (await read(market, its.transaction_id)).currency == "CHF"
    with pytest.raises(Conflict) as refused:
        await assign(market, its.transaction_id, customer, 5_000, "ticket 1")
    assert refused.value.code == "other_legal_entity"
    with pytest.raises(NotFound):
        await receive(market, reference="bank 2", legal_entity_id=new_id())
    await assert_intact(market)


async def test_an_assigned_payment_is_the_tenants_top_up_and_names_it(market: Market, customer: Customer) -> None:
    payment = (await receive(market)).transaction_id
    assigned = await assign(market, payment, customer, 5_000, "ticket 1")
    assert (await assign(market, payment, customer, 5_000, "ticket 1")).repeated
    assert await available(market, customer) == GIFT + 5_000
    assert await account(market, "suspense") == 0
    assert await queue(market) == []
    assert [one.open_nano for one in await queue(market, settled=True)] == [0]
    (settlement,) = await settlements(market, payment)
    assert (settlement.id, settlement.tenant_id, settlement.kind) == (
        assigned.transaction_id,
        customer.tenant_id,
        "top_up",
    )
    payload = await market.scalar("SELECT payload FROM outbox WHERE id = :id", id=assigned.transaction_id)
    assert payload["reverses"] == str(payment)
    with pytest.raises(Invalid) as refused:
        await assign(market, payment, customer, 1, "ticket 2")
    assert refused.value.code == "amount_too_large"
    await assert_intact(market)


async def test_what_was_assigned_is_paid_in_and_may_be_refunded(market: Market, make_customer: MakeCustomer) -> None:
    customer = await make_customer(0)
    payment = (await receive(market)).transaction_id
    await assign(market, payment, customer, 5_000, "ticket 1")
    await move(market, customer, "refund", 5_000, "out 1")
    assert await account(market, "payment_clearing") == 0
    await assert_intact(market)


async def test_a_wrong_assignment_is_taken_back_and_the_payment_is_open_again(
    market: Market, customer: Customer, make_customer: MakeCustomer
) -> None:
    payment, right = (await receive(market)).transaction_id, await make_customer()
    wrong = await assign(market, payment, customer, 5_000, "ticket 1")
    await take_back(market, customer, wrong.transaction_id)
    assert (await read(market, payment)).open_nano == 5_000
    await assign(market, payment, right, 5_000, "ticket 2")
    assert await available(market, customer) == GIFT
    assert await available(market, right) == GIFT + 5_000
    assert [one.taken_back for one in await settlements(market, payment)] == [True, False]
    await assert_intact(market)


async def test_a_payment_goes_back_with_a_reason(market: Market) -> None:
    payment = (await receive(market)).transaction_id
    returned = await send_back(market, payment, 5_000, "out 1")
    assert (await send_back(market, payment, 5_000, "out 1")).repeated
    assert await account(market, "payment_clearing") == 0
    (settlement,) = await settlements(market, payment)
    assert (settlement.tenant_id, settlement.reason) == (None, "nobody knows the payer")
    await undo(market, returned.transaction_id)
    assert (await read(market, payment)).open_nano == 5_000
    with pytest.raises(Conflict):
        await undo(market, returned.transaction_id, "undo 2")
    with pytest.raises(Invalid):
        async with market.database.operator() as session:
            await service.send_back(session, payment, Part(amount_nano=1, reference="out 2", reason=" "))
    await assert_intact(market)


async def test_a_payment_that_was_typed_wrongly_is_taken_back_before_any_of_it_is_settled(
    market: Market, customer: Customer
) -> None:
    payment = (await receive(market)).transaction_id
    part = await assign(market, payment, customer, 1, "ticket 1")
    with pytest.raises(Conflict) as refused:
        await undo(market, payment)
    assert refused.value.code == "payment_settled"
    await take_back(market, customer, part.transaction_id)
    await undo(market, payment)
    assert (await undo(market, payment)).repeated
    with pytest.raises(Conflict):
        await undo(market, payment, "undo 2")
    with pytest.raises(Invalid):
        await assign(market, payment, customer, 1, "ticket 2")
    assert await account(market, "suspense") == 0
    await assert_intact(market)


async def test_a_tenants_refund_is_no_return_from_suspense(market: Market, customer: Customer) -> None:
    await move(market, customer, "top_up", 5_000, "bank 1")
    refund = await move(market, customer, "refund", 5_000, "out 1")
    with pytest.raises(NotFound):
        await undo(market, refund.transaction_id)
    with pytest.raises(NotFound):
        await assign(market, refund.transaction_id, customer, 5_000, "ticket 1")


@pytest.mark.parametrize("amount_nano", [0, -5, 10**18 + 1])
async def test_an_impossible_amount_is_refused(market: Market, customer: Customer, amount_nano: int) -> None:
    with pytest.raises(Invalid):
        await receive(market, amount_nano)
    payment = (await receive(market)).transaction_id
    with pytest.raises(Invalid):
        await assign(market, payment, customer, amount_nano, "ticket 1")
    assert await account(market, "suspense") == 5_000


async def test_however_many_settle_it_at_once_no_nano_leaves_twice(market: Market, make_customer: MakeCustomer) -> None:
    """Assigned, sent back, repeated and taken back in any order: what is open is what came in less what left."""
    random, customers = Random(20261122), [await make_customer(0) for _ in range(3)]  # noqa: S311 -- no secret
    payment = (await receive(market, 1_000)).transaction_id

    async def attempt(number: int) -> None:
        await asyncio.gather(*(settle(number) for _ in range(random.choice((1, 2)))))

    async def settle(number: int) -> None:
        amount_nano, customer = 90 + number, customers[number % 3]
        steps: list[Callable[[], Awaitable[Moved]]] = [
            lambda: assign(market, payment, customer, amount_nano, f"part {number}"),
            lambda: send_back(market, payment, amount_nano, f"part {number}"),
        ]
        try:
            moved = await steps[number % 4 == 0]()
            if number % 5 == 0:
                undone = (
                    undo(market, moved.transaction_id, f"undo {number}")
                    if number % 4 == 0
                    else take_back(market, customer, moved.transaction_id, f"undo {number}")
                )
                await undone
        except ChappeError as refused:
            assert refused.code == "amount_too_large"

    await asyncio.gather(*(attempt(number) for number in range(24)))
    left = [one.amount_nano for one in await settlements(market, payment) if not one.taken_back]
    found = await read(market, payment)
    assert found.open_nano == 1_000 - sum(left) >= 0
    assert sum([await available(market, customer) for customer in customers]) + await account(
        market, "suspense"
    ) == -await account(market, "payment_clearing")
    await assert_intact(market)
