"""A year of random business, with runs that die in the middle: what is invoiced and what is not yet is what was
charged, and what was given up is what nobody will pay, to the nano; numbers have no gap; each transaction is invoiced
once; every document can be made again to the byte, and all that show it show the same.

`CHAPPE_YEARS=50` tries as many years, from other dice each time unless `--hypothesis-seed` says which.
"""

import os
import re
from collections import Counter
from random import Random
from uuid import UUID
from xml.etree import ElementTree as ET

import msgspec
import pypdfium2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text

from chappe_billing.advances.service import document_all
from chappe_billing.credit_notes.service import credit
from chappe_billing.documents.amounts import minor_text
from chappe_billing.documents.content import DocumentContent
from chappe_billing.documents.mailing import read_papers
from chappe_billing.documents.models import Paper
from chappe_billing.documents.queries import list_refusals
from chappe_billing.documents.service import render_all, verify_documents
from chappe_billing.funds.service import Movement, move_funds
from chappe_billing.invoice_runs.service import begin_run, work_on
from chappe_billing.invoices.queries import ListedDocument, find_document, list_documents
from chappe_billing.invoices.service import (
    settle_invoice,
    take_back_payment,
    take_back_write_off,
    write_off_invoice,
)
from chappe_billing.invoicing.planning import tax_on
from chappe_billing.invoicing.queries import read_today
from chappe_billing.ledger.postings import Rail, TransactionKind
from chappe_billing.tax.service import treatment_of
from chappe_control.pages.invoices import read_invoice_page
from chappe_control.public.invoices import show_content, show_invoice
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import INVOICE, encode_id, new_id
from chappe_kernel.money import format_nano
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from tests.billing.conftest import Customer
from tests.invoices.conftest import CENT, EURO, MakeBuyer, Office

_MONTHS = 12
_YEARS = int(os.environ.get("CHAPPE_YEARS", "1"))
SUMS = """
    SELECT (SELECT coalesce(sum(p.charged_nano), 0) FROM invoice_part p JOIN invoice i ON i.id = p.invoice_id
            WHERE i.kind = 'invoice')
         + (SELECT coalesce(-sum(e.amount_nano), 0) FROM ledger_transaction t
            JOIN ledger_entry e ON e.transaction_id = t.id
            JOIN ledger_account a ON a.id = e.account_id AND a.kind = 'tenant_funds'
            WHERE t.kind = 'usage' AND NOT EXISTS (SELECT FROM invoice_transaction x WHERE x.transaction_id = t.id))
"""
_PRICE = """
    INSERT INTO price_version (id, listing_id, region, currency, starts_at, input_nano_per_token,
                               cached_input_nano_per_token, output_nano_per_token, request_nano)
    VALUES (:id, :listing, 'fr-par', 'EUR', now() - interval '1 second', 60, 15, :output, 7)
"""
_RATE = "INSERT INTO vat_rate (id, country, starts_on, rate_bp, source) VALUES (:id, 'FR', current_date, :rate, 'dice')"
_ACTS = (
    *("use", "use", "use", "top_up", "top_up", "gift", "refund", "dispute", "move"),
    *("pay", "pay", "lose", "lose_debt", "reopen", "credit", "new_price", "new_rate"),
)


class _Killed(Exception):
    """Raised where a process would have died."""


class Year:
    """What happens, by the dice."""

    def __init__(self, office: Office, customers: list[Customer], dice: Random) -> None:
        self.office, self.customers, self.dice = office, customers, dice
        self.top_ups: list[tuple[Customer, UUID, int, int]] = []
        self.payments: list[tuple[UUID, int]] = []
        self.losses: list[tuple[UUID, int]] = []
        self.charged = self.lost = 0
        self.price: dict[str, object] = {}
        self.output_nano = 210

    async def act(self, name: str) -> None:
        await getattr(self, name)(self.dice.choice(self.customers))

    async def use(self, customer: Customer) -> None:
        tokens, times = self.dice.randrange(1, 3_000_000), self.dice.randrange(1, 4)
        # A prompt of one token, and the request.
        amount = {"amount_nano": 60 + tokens * self.output_nano + 7} if self.price else {}
        self.charged += await self.office.use(customer, tokens, times=times, **self.price, **amount)

    async def new_price(self, _: Customer) -> None:
        version, self.output_nano = new_id(), self.dice.randrange(50, 210)
        async with self.office.database.operator() as session:
            values = {"id": version, "listing": self.office.market.listing_id, "output": self.output_nano}
            await session.execute(text(_PRICE), values)
        self.price = {"price_version": version}

    async def new_rate(self, _: Customer) -> None:
        async with self.office.database.operator() as session:
            await session.execute(text(_RATE), {"id": new_id(), "rate": self.dice.choice((2000, 2050, 2100, 550))})

    async def top_up(self, customer: Customer) -> None:
        net = self.dice.randrange(1, 300)
        async with self.office.database.operator() as session:
            treatment = await treatment_of(session, customer.tenant_id, await read_today(session))
        tax = tax_on(net, treatment.rate_bp) * CENT if self.dice.random() < 0.7 else 0
        paid = await self.office.pay_in(customer, net * CENT, tax)
        self.top_ups.append((customer, paid, net * CENT, tax))
        # As its worker does seconds later, before its buyer moves.
        await document_all(self.office.database)

    async def dispute(self, _: Customer) -> None:
        if self.top_ups:
            customer, paid, net, tax = self.top_ups.pop(self.dice.randrange(len(self.top_ups)))
            await self.office.take_back(customer, paid, net, tax)
        elif self.payments:
            transaction, amount = self.payments.pop()
            async with self.office.database.operator() as session:
                await take_back_payment(
                    session, transaction, amount_nano=amount, reference=str(new_id()), reason="returned"
                )

    async def refund(self, _: Customer) -> None:
        """Of a whole payment, if no invoice has used any of it."""
        if not self.top_ups:
            return
        customer, paid, net, _tax = self.top_ups[-1]
        asked = Movement(
            kind=TransactionKind.REFUND, amount_nano=net, reference=str(new_id()), reason="asked", payment=paid
        )
        try:
            async with self.office.database.operator() as session:
                await move_funds(session, customer.tenant_id, asked)
        except Invalid as error:
            assert error.code == "amount_too_large"
        else:
            self.top_ups.pop()

    async def gift(self, customer: Customer) -> None:
        await self.office.pay_in(customer, self.dice.randrange(1, 50 * CENT), kind=TransactionKind.GOODWILL_CREDIT)

    async def move(self, customer: Customer) -> None:
        await self.office.change(customer, country=self.dice.choice(("FR", "DE", "CH")), postal_code=None)

    async def pay(self, _: Customer) -> None:
        """Of a part, or more than there is."""
        for invoice in self.dice.sample(found := await self.office.open(), min(1, len(found))):
            amount = self.dice.randrange(1, 2 * invoice.open_nano // CENT) * CENT
            async with self.office.database.operator() as session:
                done = await settle_invoice(
                    session, invoice.id, amount_nano=amount, reference=str(new_id()), rail=Rail.CARD
                )
            self.payments.append((done.transactions[0], min(amount, invoice.open_nano)))

    async def lose(self, _: Customer) -> None:
        for invoice in self.dice.sample(found := await self.office.open(), min(1, len(found))):
            amount = self.dice.randrange(1, invoice.open_nano // CENT + 1) * CENT
            async with self.office.database.operator() as session:
                done = await write_off_invoice(
                    session,
                    invoice.id,
                    amount_nano=amount,
                    reference=str(new_id()),
                    reason="insolvent",
                    reclaims_tax=self.dice.random() < 0.5,
                )
            self.lost += amount
            self.losses.append((done.transactions[0], amount))

    async def lose_debt(self, customer: Customer) -> None:
        """What is owed beside invoices, and not a nano more."""
        owed = -sum(
            invoice.open_nano for invoice in await self.office.open() if invoice.tenant_id == customer.tenant_id
        )
        debt = owed - await self.office.available(customer)
        for amount, is_too_much in ((debt + 1, True), (debt, False)):
            asked = Movement(
                kind=TransactionKind.WRITE_OFF, amount_nano=amount, reference=str(new_id()), reason="insolvent"
            )
            try:
                async with self.office.database.operator() as session:
                    await move_funds(session, customer.tenant_id, asked)
            except Invalid:
                assert is_too_much or debt <= 0
            else:
                assert not is_too_much
                self.lost += amount

    async def reopen(self, _: Customer) -> None:
        if self.losses:
            transaction, amount = self.losses.pop(self.dice.randrange(len(self.losses)))
            async with self.office.database.operator() as session:
                await take_back_write_off(session, transaction, reference=str(new_id()), reason="it paid")
            self.lost -= amount

    async def credit(self, _: Customer) -> None:
        for invoice in self.dice.sample(found := await self.office.open(), min(1, len(found))):
            try:
                async with self.office.database.operator() as session:
                    await credit(session, invoice.id, reference=str(new_id()), reason="agreed")
            except Conflict as error:
                assert error.code == "already_credited"

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


async def check_sums(office: Office, before: tuple[int, int], year: Year) -> None:
    charged, lost = await sums(office)
    assert charged - before[0] == year.charged
    assert lost - before[1] == year.lost
    await office.verify()


async def sums(office: Office) -> tuple[int, int]:
    """What is invoiced or waits to be, and what was given up, with the tax that was taken back in it."""
    reclaimed = await office.market.scalar(
        "SELECT coalesce(sum(e.amount_nano), 0) FROM ledger_entry e JOIN ledger_account a ON a.id = e.account_id "
        "JOIN ledger_transaction t ON t.id = e.transaction_id LEFT JOIN ledger_transaction r ON r.id = t.reverses "
        "WHERE a.kind = 'vat_payable' AND (t.kind = 'write_off' OR (t.kind = 'reversal' AND r.kind = 'write_off'))"
    )
    return int(await office.market.scalar(SUMS)), -await office.booked("write_off") - int(reclaimed)


async def check_papers(office: Office) -> None:
    """Made once, made again, and the same on paper, in the XML, by the API and on the page."""
    await render_all(office.database)
    async with office.database.operator() as session:
        refused = [(number, refusal.findings) for refusal, number, _ in await list_refusals(session, limit=100)]
    assert refused == []
    verified = await verify_documents(office.database)
    async with office.database.audit() as session:
        listed = await list_documents(session, tenant_id=None, limit=1000)
        assert (verified.different, verified.older, verified.same) == (None, 0, 2 * len(listed))
        for document in listed:
            found = await find_document(session, tenant_id=None, name=document.id)
            papers = await read_papers(session, document.id)
            page = await read_invoice_page(session, encode_id(INVOICE, document.id), tenant_id=None)
            assert found is not None and (page["document"], page["content"]) == found
            check_amounts(document, found[1], papers)
    numbers = Counter((one.number.rsplit("-", 1)[0], int(one.number.rsplit("-", 1)[1])) for one in listed)
    for series in {series for series, _ in numbers}:
        ordinals = sorted(ordinal for name, ordinal in numbers if name == series)
        assert ordinals == list(range(1, len(ordinals) + 1)), "no gap, none twice"


def check_amounts(document: ListedDocument, content: DocumentContent, papers: dict[Paper, bytes]) -> None:
    minor = (content.net_minor, content.tax_minor, content.gross_minor)
    assert minor == (document.net_minor, document.tax_minor, document.gross_minor)
    nano = [format_nano(amount * CENT) for amount in minor]
    view, said = show_invoice(document), show_content(content)
    assert [view.net, view.tax, view.gross] == [said.net, said.tax, said.gross] == nano
    texts = [minor_text(amount, content.minor_digits) for amount in minor]
    names = ("TaxBasisTotalAmount", "TaxTotalAmount", "GrandTotalAmount")
    root = ET.fromstring(papers[Paper.XML])  # noqa: S314  # of our own
    assert [next(one for one in root.iter() if one.tag.endswith(f"}}{name}")).text for name in names] == texts
    paper = text_of(papers[Paper.PDF])
    assert content.number in paper and texts[2] in paper.replace(",", "")
    assert msgspec.json.decode(msgspec.json.encode(content), type=DocumentContent) == content


def text_of(pdf: bytes) -> str:
    opened = pypdfium2.PdfDocument(pdf)
    try:
        return re.sub(r"\s+", " ", " ".join(page.get_textpage().get_text_bounded() for page in opened))
    finally:
        opened.close()


@pytest.mark.timeout(300 * _YEARS)
@settings(
    max_examples=_YEARS,
    derandomize="CHAPPE_YEARS" not in os.environ,
    deadline=None,
    # Whatever fails is a year: there is nothing smaller to look for.
    phases=(Phase.generate,),
    # All years are on one database, each with customers of its own: what adds up adds up over all of them.
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 2**32))
async def test_a_year_of_business_adds_up(office: Office, buyer: MakeBuyer, seed: int) -> None:
    before = await sums(office)
    async with office.database.operator() as session:
        # What identifies a seller where no VAT number may stand: to buyers outside the Union.
        await session.execute(text("UPDATE legal_entity SET registration = 'RCS Paris 303 265 045'"))
    customers = [await buyer(10 * CENT, credit_nano=1000 * EURO) for _ in range(2)]
    year = Year(office, customers, Random(seed))  # noqa: S311  # a test's dice
    for _ in range(_MONTHS):
        # Whatever else happens, somebody uses something.
        for act in ("use", *year.dice.choices(_ACTS, k=4)):
            await year.act(act)
        await year.end_month()
    await document_all(office.database)
    await check_sums(office, before, year)
    await check_papers(office)
    assert await office.market.scalar("SELECT count(*) FROM invoice") >= _MONTHS // 2
