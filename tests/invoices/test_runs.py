"""A run decides about every payer once, whoever else works on it and wherever it is killed."""

import asyncio
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from chappe_billing.contract_terms.reckoning import TermKind
from chappe_billing.contract_terms.service import agree_term
from chappe_billing.cut_off.service import cut_off_all
from chappe_billing.invoice_runs.service import begin_run, decide_about, run_due, work_on
from chappe_billing.invoices.models import Outcome
from chappe_kernel.errors import Conflict
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from tests.invoices.conftest import CENT, EURO, MakeBuyer, Office


async def test_a_run_is_of_the_month_and_says_what_it_found(office: Office, buyer: MakeBuyer) -> None:
    busy, idle, unknown = [await buyer(credit_nano=100 * EURO) for _ in range(3)]
    await office.use(busy, times=2)
    await office.use(unknown)
    await office.change(unknown, country=None)
    month = await office.month_passes()
    await office.use(busy)
    run_id = await office.run(month)
    found = {entry.tenant_id: (entry.outcome, entry.code, entry.invoices) for entry in await office.log(run_id)}
    assert found == {
        busy.tenant_id: (Outcome.ISSUED, None, 1),
        idle.tenant_id: (Outcome.NOTHING, None, 0),
        unknown.tenant_id: (Outcome.LATER, "tax_undecided", 0),
    }
    (invoice,) = await office.open()
    assert (invoice.tenant_id, invoice.gross_nano) == (busy.tenant_id, 50 * CENT)
    assert await office.market.scalar("SELECT ended_at FROM invoice_run") is None
    await office.change(unknown, country="FR")
    assert await run_due(office.database) == 1
    assert await office.market.scalar("SELECT ended_at IS NOT NULL FROM invoice_run")
    assert await run_due(office.database) == 0
    await office.verify()


async def test_a_month_that_is_not_over_is_not_invoiced(office: Office) -> None:
    today: datetime = await office.market.scalar("SELECT now()")
    with pytest.raises(Conflict, match="over"):
        await office.run(today.astimezone(UTC).date().replace(day=1))


async def test_contracts_entries_stand_on_the_invoice_of_their_month(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=100 * EURO)
    await office.use(customer)
    today: date = await office.market.scalar("SELECT (now() AT TIME ZONE 'UTC')::date")
    async with office.database.operator() as session:
        await agree_term(
            session, customer.scope, kind=TermKind.MINIMUM, first_month=today.replace(day=1), amount_nano=EURO
        )
    month = await office.month_passes()
    run_id = await office.run(month)
    assert [entry.code for entry in await office.log(run_id)] == ["month_not_cut_off"]
    assert await cut_off_all(office.database) == 1
    await office.run(month)
    (invoice,) = await office.open()
    content = await office.content(invoice.number)
    assert {line.component for line in content.lines} >= {"output", "minimum_fee"}
    assert content.net_minor == 100
    await office.verify()


async def test_several_workers_issue_each_invoice_once(office: Office, buyer: MakeBuyer) -> None:
    customers = [await buyer(credit_nano=EURO) for _ in range(8)]
    for customer in customers:
        await office.use(customer)
    month = await office.month_passes()
    async with office.database.operator() as session:
        run = await begin_run(session, DEFAULT_LEGAL_ENTITY_ID, month)
    decided = await asyncio.gather(*(work_on(office.database, run.id, run.cut_off_at) for _ in range(3)))
    assert sum(decided) == 8
    numbers = sorted(one.number for one in await office.open())
    assert [number[-6:] for number in numbers] == [f"{ordinal:06d}" for ordinal in range(1, 9)]
    await office.verify()


class _Killed(Exception):
    """Raised where a process would have died."""


async def test_whatever_statement_it_dies_at_nothing_is_half_done(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(40 * CENT, credit_nano=100 * EURO)
    await office.pay_in(customer, 50 * CENT, 10 * CENT)
    await office.pay_in(customer, 30 * CENT)
    await office.use(customer, times=10)
    month = await office.month_passes()
    async with office.database.operator() as session:
        run = await begin_run(session, DEFAULT_LEGAL_ENTITY_ID, month)
    before = await _everything(office)
    engine: AsyncEngine = office.database._engine  # the only way to die within a statement
    deaths = 0
    while True:
        left = deaths + 1

        def die(*_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise _Killed

        event.listen(engine.sync_engine, "after_cursor_execute", die)
        try:
            async with office.database.operator() as session:
                await decide_about(session, run.id, customer.tenant_id, run.cut_off_at)
        except _Killed:
            deaths += 1
        else:
            break
        finally:
            event.remove(engine.sync_engine, "after_cursor_execute", die)
        assert await _everything(office) == before
    assert deaths > 15, "there are that many statements"
    (invoice,) = await office.open()
    assert invoice.number.endswith("-000001"), "no number was lost"
    await office.verify()


async def _everything(office: Office) -> object:
    return await office.market.scalar(
        """
        SELECT ROW(
            (SELECT count(*) FROM invoice), (SELECT count(*) FROM invoice_cut), (SELECT count(*) FROM invoice_part),
            (SELECT count(*) FROM invoice_transaction), (SELECT count(*) FROM invoice_funding),
            (SELECT count(*) FROM invoice_settlement), (SELECT coalesce(sum(last_ordinal), 0) FROM invoice_counter),
            (SELECT count(*) FROM ledger_transaction), (SELECT sum(funds_nano) FROM budget),
            (SELECT count(*) FROM outbox), (SELECT string_agg(outcome, ',') FROM invoice_run_tenant)
        )::text
        """
    )
