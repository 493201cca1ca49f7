"""A year of random business, with runs that die in the middle: what is invoiced and what is not yet is what was
charged, to the nano; numbers have no gap; each transaction is invoiced once; every sum agrees with every other."""

from random import Random
from uuid import UUID

import pytest
from sqlalchemy import event

from chappe_billing.advances.service import document_all
from chappe_billing.credit_notes.service import credit
from chappe_billing.invoice_runs.service import begin_run, work_on
from chappe_billing.invoices.service import settle_invoice, write_off_invoice
from chappe_billing.ledger.postings import Rail, TransactionKind
from chappe_kernel.errors import Conflict
from chappe_kernel.ids import new_id
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from tests.billing.conftest import Customer
from tests.invoices.conftest import CENT, EURO, MakeBuyer, Office

_MONTHS = 12
SUMS = """
    SELECT (SELECT coalesce(sum(p.charged_nano), 0) FROM invoice_part p JOIN invoice i ON i.id = p.invoice_id
            WHERE i.kind = 'invoice')
         + (SELECT coalesce(-sum(e.amount_nano), 0) FROM ledger_transaction t
            JOIN ledger_entry e ON e.transaction_id = t.id
            JOIN ledger_account a ON a.id = e.account_id AND a.kind = 'tenant_funds'
            WHERE t.kind = 'usage' AND NOT EXISTS (SELECT FROM invoice_transaction x WHERE x.transaction_id = t.id))
"""


class _Killed(Exception):
    """Raised where a process would have died."""


class Year:
    """What happens, by the dice."""

    def __init__(self, office: Office, customers: list[Customer], dice: Random) -> None:
        self.office, self.customers, self.dice = office, customers, dice
        self.payments: list[tuple[Customer, UUID, int]] = []
        self.charged = 0

    async def act(self) -> None:
        customer = self.dice.choice(self.customers)
        act = self.dice.choice((self.use, self.use, self.use, self.top_up, self.lose, self.gift, self.move, self.pay))
        await act(customer)

    async def use(self, customer: Customer) -> None:
        self.charged += await self.office.use(
            customer, self.dice.randrange(1, 3_000_000), times=self.dice.randrange(1, 4)
        )

    async def top_up(self, customer: Customer) -> None:
        net = self.dice.randrange(1, 300) * CENT
        if self.dice.random() < 0.5:
            await self.office.pay_in(customer, net)
        else:
            self.payments.append((customer, await self.office.pay_in(customer, net, net // 5), net))

    async def lose(self, _: Customer) -> None:
        if self.payments:
            customer, payment, net = self.payments.pop(self.dice.randrange(len(self.payments)))
            await self.office.take_back(customer, payment, net, net // 5)

    async def gift(self, customer: Customer) -> None:
        await self.office.pay_in(customer, self.dice.randrange(1, 50 * CENT), kind=TransactionKind.GOODWILL_CREDIT)

    async def move(self, customer: Customer) -> None:
        await self.office.change(customer, country=self.dice.choice(("FR", "DE", "CH")), postal_code=None)

    async def pay(self, _: Customer) -> None:
        found = await self.office.open()
        if not found:
            return
        invoice, reference = self.dice.choice(found), str(new_id())
        part = self.dice.randrange(1, 2 * invoice.open_nano // CENT) * CENT
        async with self.office.database.operator() as session:
            match self.dice.randrange(4):
                case 0:
                    lost = min(part, invoice.open_nano)
                    await write_off_invoice(session, invoice.id, amount_nano=lost, reference=reference, reason="lost")
                case 1:
                    try:
                        await credit(session, invoice.id, reference=reference, reason="agreed")
                    except Conflict as error:
                        assert error.code == "already_credited"
                case _:
                    await settle_invoice(session, invoice.id, amount_nano=part, reference=reference, rail=Rail.CARD)

    async def end_month(self) -> None:
        """Its run dies somewhere, and is gone on with."""
        month = await self.office.month_passes()
        async with self.office.database.operator() as session:
            run = await begin_run(session, DEFAULT_LEGAL_ENTITY_ID, month)
        left = self.dice.randrange(1, 60)

        def die(*_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise _Killed

        engine = self.office.database._engine.sync_engine
        event.listen(engine, "after_cursor_execute", die)
        try:
            await work_on(self.office.database, run.id, run.cut_off_at)
        except _Killed:
            pass
        finally:
            event.remove(engine, "after_cursor_execute", die)
        await work_on(self.office.database, run.id, run.cut_off_at)
        assert {entry.code for entry in await self.office.log(run.id)} == {None}


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_year_of_business_adds_up(office: Office, buyer: MakeBuyer, seed: int) -> None:
    customers = [await buyer(10 * CENT, credit_nano=1000 * EURO) for _ in range(2)]
    year = Year(office, customers, Random(seed))  # noqa: S311  # a test's dice
    for _ in range(_MONTHS):
        for _ in range(4):
            await year.act()
        await year.end_month()
    await document_all(office.database)
    assert await office.market.scalar(SUMS) == year.charged
    await office.verify()
    assert await office.market.scalar("SELECT count(*) FROM invoice") >= _MONTHS
