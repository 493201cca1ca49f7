"""Buyers who pay after they used, and shorthands for what becomes of their invoices."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import update

from chappe_billing.dunning.service import dun_all
from chappe_billing.invoices.queries import find_open_invoice
from chappe_billing.payments import service
from chappe_billing.payments.queries import find_call, list_methods
from chappe_control.mail.orders import Seal
from chappe_control.mail.service import Mail
from chappe_control.notices.service import Office as NoticeOffice
from chappe_control.notices.service import tell_waiting
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID, LegalEntity
from tests.billing.conftest import Customer
from tests.control.world import PEPPERS
from tests.invoices.conftest import CENT, EURO, MakeBuyer, Office
from tests.payments.world import GOOD_CARD, PORTAL_URL, PaymentWorld, card

GROSS_MINOR = 252
GROSS_NANO = GROSS_MINOR * CENT


@dataclass(frozen=True)
class Collector:
    world: PaymentWorld
    office: Office
    make_buyer: MakeBuyer

    async def invoiced(self, **method: str) -> tuple[Customer, UUID]:
        """A buyer with that saved method, and an open invoice of 2.52."""
        customer = await self.make_buyer(credit_nano=1000 * EURO)
        if method:
            await self.save(customer, **method)
        return customer, await self.invoice(customer)

    async def with_card(self, number: str = GOOD_CARD) -> tuple[Customer, UUID]:
        return await self.invoiced(**card(number))

    async def invoice(self, customer: Customer) -> UUID:
        await self.office.use(customer, times=10)
        (issued,) = await self.office.issue(customer)
        return issued.id

    async def save(self, customer: Customer, **method: str) -> None:
        async with self.world.database.tenant(customer.scope) as session:
            call_id = await service.start_setup(session, customer.scope, portal_url=PORTAL_URL)
        await self.world.work()
        async with self.world.database.tenant(customer.scope) as session:
            call = await find_call(session, customer.scope, call_id)
        assert call is not None and call.url is not None
        await self.world.stripe.submit(call.url, **method)
        await self.world.hear_all()

    async def collect(self) -> int:
        """By several workers at once; what Stripe tells of it is not heard yet."""
        begun = sum(await asyncio.gather(*(self.world.office.collect_all() for _ in range(3))))
        await self.world.work()
        return begun

    async def open_nano(self, invoice_id: UUID) -> int:
        async with self.world.database.operator() as session:
            found = await find_open_invoice(session, invoice_id)
        assert found is not None
        return found.open_nano

    async def states(self) -> list[str]:
        """Of all payments, the oldest first."""
        return [state for (state,) in await self.world.sql("SELECT state FROM payment ORDER BY created_at, id")]

    async def told(self) -> list[tuple[str, str | None, str]]:
        """What the outbox has of payments: topic, invoice, amount."""
        return [
            (topic, invoice, amount)
            for topic, invoice, amount in await self.world.sql(
                "SELECT topic, payload ->> 'invoice_id', payload ->> 'amount' FROM outbox "
                "WHERE topic IN ('payment.failed', 'payment.succeeded') ORDER BY id"
            )
        ]

    async def collects_by(self, payments: str) -> None:
        async with self.world.database.operator() as session:
            statement = update(LegalEntity).where(LegalEntity.id == DEFAULT_LEGAL_ENTITY_ID)
            await session.execute(statement.values(payments=payments))

    async def dun_after_a_failure(self) -> int:
        """The failure is a day ago, and dunning takes its step."""
        mail = Mail(self.world.database, Seal(PEPPERS), {}, self.world.clock, server=None, sender=None)
        await tell_waiting(self.world.database, NoticeOffice(mail, PORTAL_URL))
        await self.world.sql("UPDATE payment_failure SET failed_at = failed_at - interval '1 day'")
        return await dun_all(self.world.database)

    async def wishes(self) -> list[tuple[bool, bool]]:
        """Of dunning: whether each is granted, or given up."""
        return [
            (granted, given_up)
            for granted, given_up in await self.world.sql(
                "SELECT delivered_at IS NOT NULL, given_up_at IS NOT NULL FROM outbox "
                "WHERE topic = 'payment.retry_wanted' ORDER BY id"
            )
        ]

    async def choose_newest_method(self, customer: Customer) -> None:
        async with self.world.database.tenant(customer.scope) as session:
            methods = await list_methods(session, customer.scope)
            newest = max(methods, key=lambda method: method.added_at)
            await service.choose_method(session, customer.scope, newest.service_id)

    async def verify(self) -> None:
        await self.office.verify()
