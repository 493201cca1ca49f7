"""Dunning over a real database: each step once however often it runs or is killed, and recovery by the payment."""

import asyncio
from datetime import timedelta

import pytest

from chappe_billing.dunning import queries, service
from chappe_billing.dunning.rules import Policy
from chappe_billing.dunning.service import dun_all
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import new_id
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.organisations.lifecycle import Authority, Reason, TenantState
from chappe_tenants.organisations.service import change_state
from tests.dunning.conftest import GROSS_NANO, Customer


async def test_an_overdue_invoice_is_asked_for_once(customer: Customer) -> None:
    await customer.invoice(due_days_ago=2)
    await customer.invoice(due_days_ago=-2)
    assert (await dun_all(customer.database), await dun_all(customer.database)) == (2, 0)
    assert await customer.steps() == [("notice", 1), ("reminder", 1)]
    assert sorted(await customer.outbox()) == ["invoice.overdue", "invoice.reminder"]


async def test_eight_processes_at_once_take_each_step_once(customer: Customer) -> None:
    for days in (2, 9, 20):
        await customer.invoice(due_days_ago=days)
    assert sum(await asyncio.gather(*(dun_all(customer.database) for _ in range(8)))) == 3
    assert len(await customer.outbox()) == 3


async def test_from_the_last_notice_to_suspension_and_back_by_the_payment(customer: Customer) -> None:
    invoice_id = await customer.invoice(due_days_ago=50)
    await customer.told_long_ago(invoice_id)
    assert await dun_all(customer.database) == 1
    assert await customer.state() == ("suspended", "unpaid")
    assert await dun_all(customer.database) == 0
    await customer.pay(invoice_id, GROSS_NANO - 10**7)
    assert await dun_all(customer.database) == 0, "a cent is open"
    await customer.pay(invoice_id, 10**7)
    assert (await dun_all(customer.database), await dun_all(customer.database)) == (1, 0)
    assert await customer.state() == ("active", "resolved")
    assert await customer.outbox() == ["organisation.suspended", "organisation.restored"]


async def test_who_pays_at_the_last_moment_is_not_suspended(customer: Customer) -> None:
    """The payment is committed after the worker has looked and before it decides."""
    invoice_id = await customer.invoice(due_days_ago=50)
    await customer.told_long_ago(invoice_id)
    read = service._read_cases
    paid = False

    async def look(*found: object) -> object:
        nonlocal paid
        answer = await read(*found)  # type: ignore[arg-type]  # it takes what it is given
        if not paid:
            paid = True
            await customer.pay(invoice_id)
        return answer

    service._read_cases = look  # type: ignore[assignment]  # put back below
    try:
        assert await dun_all(customer.database) == 0
    finally:
        service._read_cases = read
    assert await customer.state() == ("active", None)


async def test_killed_between_the_suspension_and_its_notice_leaves_neither(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoice_id = await customer.invoice(due_days_ago=50)
    await customer.told_long_ago(invoice_id)

    async def die(*_: object) -> None:
        raise ConnectionAbortedError

    for place in ("_tell", "queries.insert_suspension", "change_state"):
        with monkeypatch.context() as patched, pytest.raises(ConnectionAbortedError):
            patched.setattr(f"chappe_billing.dunning.service.{place}", die)
            await dun_all(customer.database)
        assert (await customer.state(), await customer.steps(), await customer.outbox()) == (("active", None), [], [])
    assert await dun_all(customer.database) == 1
    assert await customer.outbox() == ["organisation.suspended"]
    await customer.pay(invoice_id)
    with monkeypatch.context() as patched, pytest.raises(ConnectionAbortedError):
        patched.setattr("chappe_billing.dunning.service.queries.lift_suspension", die)
        await dun_all(customer.database)
    assert await customer.state() == ("suspended", "unpaid")
    await dun_all(customer.database)
    assert await customer.state() == ("active", "resolved")


async def test_what_the_operator_suspended_for_another_reason_is_not_lifted(customer: Customer) -> None:
    """Also if dunning had suspended it before: whoever decided last decides."""
    invoice_id = await customer.invoice(due_days_ago=50)
    await customer.told_long_ago(invoice_id)
    await dun_all(customer.database)
    scope = TenantScope(customer.tenant_id)
    for to, reason in ((TenantState.ACTIVE, Reason.RESOLVED), (TenantState.SUSPENDED, Reason.UNPAID)):
        async with customer.database.operator() as session:
            await change_state(session, scope, to, reason, Authority.OPERATOR)
    await customer.pay(invoice_id)
    await dun_all(customer.database)
    assert await customer.state() == ("suspended", "unpaid")
    async with customer.database.audit() as session:
        assert await queries.suspended_tenants(session) == []


async def test_a_pause_holds_until_its_day_and_ends_by_hand(customer: Customer) -> None:
    await customer.invoice(due_days_ago=9)
    async with customer.database.operator() as session:
        until = await read_now(session) + timedelta(days=3)
        await service.pause(session, customer.tenant_id, reason="They promised", until=until)
        await service.pause(session, customer.tenant_id, reason="They promised again", until=until)
    assert await dun_all(customer.database) == 0
    async with customer.database.audit() as session:
        (entry,) = (await service.read_book(session, limit=10)).entries
    assert entry.pause is not None and entry.pause.reason == "They promised again"
    assert (entry.overdue_nano, entry.level) == (GROSS_NANO, 0)
    async with customer.database.operator() as session:
        await service.resume(session, customer.tenant_id)
    assert await dun_all(customer.database) == 1
    with pytest.raises(NotFound):
        async with customer.database.operator() as session:
            await service.resume(session, customer.tenant_id)
    for wrong in ({"reason": "", "until": until}, {"reason": "x", "until": until - timedelta(days=9)}):
        with pytest.raises(Invalid):
            async with customer.database.operator() as session:
                await service.pause(session, customer.tenant_id, **wrong)  # type: ignore[arg-type]


async def test_a_failed_collection_is_wanted_again(customer: Customer) -> None:
    invoice_id = await customer.invoice(due_days_ago=-20)
    await customer.sql(
        "INSERT INTO payment_failure (tenant_id, id, invoice_id, amount_nano, currency, reason, failed_at) "
        "VALUES ($1, $2, $3, 1, 'EUR', 'card_declined', now() - interval '1 day')",
        *(customer.tenant_id, new_id(), invoice_id),
    )
    assert (await dun_all(customer.database), await dun_all(customer.database)) == (1, 0)
    assert await customer.steps() == [("retry", 1)]
    assert len(await customer.outbox("payment.retry_wanted")) == 1


async def test_each_legal_entity_has_its_policy(customer: Customer) -> None:
    invoice_id = await customer.invoice(due_days_ago=5)
    off, quick = Policy(enabled=False), Policy(notice_days=(5,), suspend_days=5, grace_days=1, reminder_days=None)
    async with customer.database.operator() as session:
        await service.put_policy(session, DEFAULT_LEGAL_ENTITY_ID, off)
    assert await dun_all(customer.database) == 0
    async with customer.database.operator() as session:
        await service.put_policy(session, DEFAULT_LEGAL_ENTITY_ID, quick)
        assert await service.get_policy(session, DEFAULT_LEGAL_ENTITY_ID) == quick
    assert await dun_all(customer.database) == 1
    assert await customer.steps() == [("notice", 1)]
    async with customer.database.audit() as session:
        (step,) = await queries.list_steps(session, tenant_id=customer.tenant_id, limit=9)
    assert (step.invoice_id, step.open_nano) == (invoice_id, GROSS_NANO)
    for wrong in (
        Policy(notice_days=()),
        Policy(notice_days=(8, 1)),
        Policy(suspend_days=10),
        Policy(grace_days=0),
        Policy(reminder_days=0),
        Policy(retry_days=tuple(range(1, 12))),
    ):
        with pytest.raises(Invalid):
            async with customer.database.operator() as session:
                await service.put_policy(session, DEFAULT_LEGAL_ENTITY_ID, wrong)
