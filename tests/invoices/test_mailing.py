"""Documents go out by mail: once each, with the kept bytes, to whom the tenant named, as often as a server takes."""

import asyncio
from datetime import timedelta
from email.message import EmailMessage

import pytest
from sqlalchemy import text

from chappe_billing.alerts.kinds import NOTICE
from chappe_billing.billing_profiles.service import ProfileChange, change_profile
from chappe_billing.credit_notes.service import credit
from chappe_billing.documents import mailing
from chappe_billing.documents.mailing import read_papers
from chappe_billing.documents.models import Paper
from chappe_billing.documents.service import render_all
from chappe_control.invoice_mail import letters
from chappe_control.invoice_mail.letters import WRITERS
from chappe_control.invoice_mail.service import mail_documents
from chappe_control.mail.orders import Seal
from chappe_control.mail.service import Mail
from chappe_control.notices.letters import WRITERS as NOTICES
from chappe_control.notices.service import Office as Notices
from chappe_control.notices.service import tell_waiting
from chappe_kernel.clock import SystemClock
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import INVOICE, TENANT, encode_id, new_id
from chappe_store.outbox import enqueue
from chappe_tenants.members.service import Role, put_member
from tests.billing.conftest import Customer
from tests.control.world import PEPPERS
from tests.invoices.conftest import EURO, MakeBuyer, Office
from tests.letters import text_of
from tests.mail.conftest import PostOffice, hello, make_due, open_office, post_office, write_hello

__all__ = ["post_office"]


@pytest.fixture
def mail(office: Office, post_office: PostOffice) -> Mail:
    return open_office(office.database, post_office.port, {**WRITERS, **NOTICES, "hello": write_hello})


def notices(mail: Mail) -> Notices:
    return Notices(mail, "https://portal.example")


async def named(office: Office, customer: Customer, email: str | None, language: str = "en") -> None:
    async with office.database.operator() as session:
        await session.execute(
            text(
                "INSERT INTO billing_profile (tenant_id, invoice_email, language) VALUES (:tenant, :email, :language) "
                "ON CONFLICT (tenant_id) DO UPDATE SET invoice_email = :email, language = :language"
            ),
            {"tenant": customer.tenant_id, "email": email, "language": language},
        )


async def an_invoice(office: Office, buyer: MakeBuyer, email: str | None, language: str = "en") -> Customer:
    customer: Customer = await buyer(credit_nano=1000 * EURO)
    await named(office, customer, email, language)
    await office.use(customer, times=10)
    assert len(await office.issue(customer)) == 1
    return customer


async def send(office: Office, mail: Mail) -> None:
    """What the control plane does all the time."""
    await render_all(office.database)
    await mail_documents(office.database, notices(mail))
    while await mail.send_due():
        pass


def files_of(message: EmailMessage) -> dict[str, bytes]:
    return {str(part.get_filename()): bytes(part.get_content()) for part in message.iter_attachments()}


async def test_each_document_goes_out_once_with_the_kept_bytes(
    office: Office, buyer: MakeBuyer, mail: Mail, post_office: PostOffice
) -> None:
    customer = await an_invoice(office, buyer, "rechnung@example.de", "de")
    for _ in range(3):
        await send(office, mail)
    (letter,) = post_office.taken
    assert letter["X-To"] == "rechnung@example.de" and letter["Content-Language"] == "de"
    invoice_id = await office.market.scalar("SELECT id FROM invoice")
    number = await office.market.scalar("SELECT number FROM invoice")
    async with office.database.operator() as session:
        kept = await read_papers(session, invoice_id)
        await credit(session, invoice_id, reference="case 1", reason="agreed")
    assert files_of(letter) == {f"{number}.pdf": kept[Paper.PDF], f"{number}.xml": kept[Paper.XML]}
    assert number in str(letter["Subject"]) and "2,52" in text_of(letter)
    await office.pay_in(customer, 100 * EURO, 20 * EURO)
    async with office.database.operator() as session:
        await session.execute(text("UPDATE legal_entity SET payments = 'external'"))
    await asyncio.gather(send(office, mail), send(office, mail))
    async with office.database.operator() as session:
        numbers = list(await session.scalars(text("SELECT number FROM invoice ORDER BY id")))
    subjects = [str(one["Subject"]) for one in post_office.taken]
    assert [sum(number in subject for subject in subjects) for number in numbers] == [1] * len(numbers)
    assert [name for one in post_office.taken for name in files_of(one)] == [
        f"{number}.{paper}" for subject in subjects for number in numbers if number in subject for paper in Paper
    ]


async def test_without_an_address_its_billing_members_get_the_way_to_it(
    office: Office, buyer: MakeBuyer, mail: Mail, post_office: PostOffice
) -> None:
    customer = await an_invoice(office, buyer, None)
    for name, role in (("owner", Role.OWNER), ("billing", Role.BILLING), ("developer", Role.DEVELOPER)):
        async with office.database.operator() as session:
            await put_member(session, customer.scope, email=f"{name}@mail.example", password="x" * 20, role=role)
    await send(office, mail)
    assert sorted(post_office.recipients) == ["billing@mail.example", "owner@mail.example"]
    public = encode_id(INVOICE, await office.market.scalar("SELECT id FROM invoice"))
    for letter in post_office.taken:
        assert f"https://portal.example/invoices/{public}" in text_of(letter) and not files_of(letter)


@pytest.mark.parametrize("email", ["a,b@c.example", "a<b>@c.example", "ä@c.example", "a@b..example"])
async def test_what_is_no_address_keeps_no_letter_waiting(
    office: Office, buyer: MakeBuyer, mail: Mail, post_office: PostOffice, email: str
) -> None:
    """Kept before addresses were checked, or ordered by somebody who did not."""
    customer = await an_invoice(office, buyer, email)
    async with office.database.operator() as session:
        await put_member(session, customer.scope, email="owner@mail.example", password="x" * 20, role=Role.OWNER)
        with pytest.raises(Invalid):
            await change_profile(session, customer.scope, ProfileChange(invoice_email=email))
        await mail.order(session, hello(email), useful_for=timedelta(hours=1))
    await send(office, mail)
    assert post_office.recipients == ["owner@mail.example"]


async def test_a_server_that_is_away_gets_it_later_and_nothing_is_sent_twice(
    office: Office, buyer: MakeBuyer, mail: Mail, post_office: PostOffice
) -> None:
    await an_invoice(office, buyer, "ap@example.fr", "fr")
    post_office.content_answers += ["451 later", "421 later"]
    await send(office, mail)
    for _ in range(2):
        assert post_office.taken == []
        await make_due(office.database)
        await mail.send_due()
    (letter,) = post_office.taken
    assert len(files_of(letter)) == 2
    await send(office, mail)
    assert len(post_office.taken) == 1


async def test_without_a_server_nothing_is_noted_and_old_documents_are_left_alone(
    office: Office, buyer: MakeBuyer, mail: Mail, post_office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await an_invoice(office, buyer, "ap@example.fr")
    await render_all(office.database)
    closed = Mail(office.database, Seal(PEPPERS), WRITERS, SystemClock(), server=None, sender=None)
    assert await mail_documents(office.database, notices(closed)) == 0
    monkeypatch.setattr(letters, "MOST_ATTACHED_BYTES", 10)
    await send(office, mail)
    (letter,) = post_office.taken
    assert not files_of(letter) and "portal" in text_of(letter), "too large for mail: the way to it"
    monkeypatch.setattr(mailing, "MAILED_WITHIN", timedelta(0))
    await an_invoice(office, buyer, "late@example.fr")
    await send(office, mail)
    assert len(post_office.taken) == 1


async def test_whoever_gets_the_invoices_is_asked_for_what_is_overdue(
    office: Office, buyer: MakeBuyer, mail: Mail, post_office: PostOffice
) -> None:
    customer = await an_invoice(office, buyer, "rechnung@example.de", "de")
    data = {
        "invoice_id": encode_id(INVOICE, new_id()),
        "number": "INV-2026-000001",
        "open": "2.52",
        "currency": "EUR",
        "due_on": "2026-11-01",
        "level": 1,
        "suspends_on": None,
    }
    async with office.database.operator() as session:
        for kind, said in (("invoice.overdue", data), ("balance.low", {"available": "1.00", "currency": "EUR"})):
            payload = {"kind": kind, "tenant_id": encode_id(TENANT, customer.tenant_id), "data": said}
            await enqueue(session, NOTICE, [payload])
    await tell_waiting(office.database, notices(mail))
    while await mail.send_due():
        pass
    (letter,) = post_office.taken
    assert letter["X-To"] == "rechnung@example.de" and letter["Content-Language"] == "de"
    assert "INV-2026-000001" in str(letter["Subject"])
