"""A mail office over a real database and a real SMTP conversation, whose other end does as a test says."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import text

from chappe_control.mail.letters import Action, Letter, parse_sender
from chappe_control.mail.orders import Order, Seal
from chappe_control.mail.service import Mail, Writer
from chappe_control.mail.smtp import parse_smtp_url
from chappe_kernel.clock import SystemClock
from chappe_local.mail_catcher import catching, content_of
from chappe_store.session import Database
from tests.control.world import PEPPERS

SENDER = "Chappe <no-reply@chappe.example>"


@dataclass
class PostOffice:
    """The other end. `answers` are what it says to the next letters' recipients and contents; then it takes all."""

    port: int = 0
    recipient_answers: list[str] = field(default_factory=list)
    content_answers: list[str] = field(default_factory=list)
    taken: list[EmailMessage] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        answer = self.recipient_answers.pop(0) if self.recipient_answers else "250 OK"
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = self.content_answers.pop(0) if self.content_answers else "250 OK"
        if answer.startswith("250"):
            message = message_from_bytes(content_of(envelope), policy=policy.default)
            message["X-To"] = ", ".join(envelope.rcpt_tos)
            self.taken.append(message)
            self.arrived.set()
        return answer

    @property
    def recipients(self) -> list[str]:
        return [str(message["X-To"]) for message in self.taken]


@pytest.fixture
async def post_office() -> AsyncIterator[PostOffice]:
    office = PostOffice()
    async with catching(office, 0) as office.port:
        yield office


async def write_hello(_: Database, order: Order) -> Letter:
    return Letter("Hello", (f"Hello {order.values['name']}.",), Action("Enter", "https://portal.example/x?link=s3cret"))


async def write_nothing(_: Database, __: Order) -> None:
    return None


WRITERS: dict[str, Writer] = {"hello": write_hello, "nothing": write_nothing}


def open_office(database: Database, port: int, writers: dict[str, Writer] | None = None) -> Mail:
    server = parse_smtp_url(f"smtp://127.0.0.1:{port}")
    return Mail(database, Seal(PEPPERS), writers or WRITERS, SystemClock(), server=server, sender=parse_sender(SENDER))


def hello(to: str = "mia@example.eu", kind: str = "hello") -> Order:
    return Order(kind, to, "en", {"name": "Mia"})


async def rows(database: Database) -> list[dict[str, Any]]:
    """The outbox, in the order of its messages."""
    async with database.operator() as session:
        found = await session.execute(
            text(
                "SELECT payload::text, attempts, delivered_at IS NOT NULL AS delivered, "
                "given_up_at IS NOT NULL AS given_up, extract(epoch FROM due_at - now())::float AS due_in_s "
                "FROM outbox WHERE topic = 'mail' ORDER BY id"
            )
        )
        return [dict(row) for row in found.mappings()]


async def make_due(database: Database) -> None:
    """As if the wait were over."""
    async with database.operator() as session:
        await session.execute(text("UPDATE outbox SET due_at = now() WHERE delivered_at IS NULL"))
