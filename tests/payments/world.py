"""What tests of payments do: buyers that top up, a Stripe that tells of it, and the ledger that has it once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import msgspec
import stripe as sdk
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from chappe_billing.audit.service import verify_ledger
from chappe_billing.balance.queries import read_balance
from chappe_billing.budgets.queries import open_budget, set_credit_limit
from chappe_billing.payments import queries, service
from chappe_billing.payments.models import Method, Payment
from chappe_billing.payments.service import Bounds, RefundAsked, TopUp
from chappe_billing.payments.stripe_service import StripeService
from chappe_control.payments.office import PaymentOffice
from chappe_kernel.money import NANO_PER_UNIT
from chappe_store.session import Database, TenantScope
from chappe_tenants.organisations.service import create_organisation
from tests.control.world import HandClock
from tests.stripe_server import LocalStripe

PORTAL_URL = "http://localhost:8400"
GOOD_CARD = "4242424242424242"
REFUSED_CARD = "4000000000000002"
REFUSED_ONCE_SAVED = "4000000000000341"
DISPUTED_CARD = "4000000000000259"
REFUND_FAILS_CARD = "4000000000005126"
GOOD_IBAN = "DE89370400440532013000"


def card(number: str = GOOD_CARD) -> dict[str, str]:
    return {"type": "card", "number": number, "expiry": "12/34", "cvc": "123", "card_name": "Ada"}


@dataclass(frozen=True)
class PaymentWorld:
    database: Database
    stripe: LocalStripe
    office: PaymentOffice
    clock: HandClock
    engine: AsyncEngine

    async def buyer(self, country: str = "FR") -> TenantScope:
        """Active, in the euro, with no money."""
        async with self.database.operator() as session:
            scope = await create_organisation(
                session,
                name=f"Buyer {uuid4().hex[:8]}",
                allowed_regions=[country],
                requests_per_minute=600,
                details={"country": country},
            )
            await open_budget(session, scope.tenant_id, "EUR")
        return scope

    async def ask(
        self, scope: TenantScope, units: int = 100, method: Method = Method.CARD, *, save: bool = False
    ) -> UUID:
        """Begin a top-up of so many euros, and do not tell Stripe yet."""
        asked = TopUp(net_nano=units * NANO_PER_UNIT, method=method, save=save)
        async with self.database.tenant(scope) as session:
            return await service.start_top_up(session, scope, asked, bounds=Bounds(), portal_url=PORTAL_URL)

    async def work(self) -> None:
        """Everything that is due is tried."""
        while await self.office.carry_out_due():
            pass

    async def page_of(self, scope: TenantScope, payment_id: UUID) -> str:
        await self.work()
        async with self.database.tenant(scope) as session:
            url = await queries.url_of(session, scope, payment_id)
        assert url is not None
        return url

    async def begin(self, scope: TenantScope, units: int = 100, method: Method = Method.CARD, **more: Any) -> str:
        """The hosted page's address."""
        return await self.page_of(scope, await self.ask(scope, units, method, **more))

    async def pay(self, scope: TenantScope, units: int = 100, number: str = GOOD_CARD, **more: Any) -> UUID:
        """From asking to the page; what Stripe tells of it is not heard yet."""
        payment_id = await self.ask(scope, units, **more)
        await self.stripe.submit(await self.page_of(scope, payment_id), **card(number))
        return payment_id

    async def topped_up(self, scope: TenantScope, units: int = 100, number: str = GOOD_CARD, **more: Any) -> Payment:
        payment_id = await self.pay(scope, units, number, **more)
        await self.hear_all()
        return await self.payment(scope, payment_id)

    async def save_card(self, scope: TenantScope, number: str = GOOD_CARD) -> None:
        async with self.database.tenant(scope) as session:
            call_id = await service.start_setup(session, scope, portal_url=PORTAL_URL)
        await self.work()
        async with self.database.tenant(scope) as session:
            call = await queries.find_call(session, scope, call_id)
        assert call is not None
        assert call.url is not None
        await self.stripe.submit(call.url, **card(number))
        await self.hear_all()

    async def refund(self, payment: Payment, gross_minor: int | None = None) -> UUID:
        asked = RefundAsked(refund_id=uuid4(), gross_minor=gross_minor, reason="asked for")
        async with self.database.operator() as session:
            await service.refund(session, payment.id, asked)
        return asked.refund_id

    async def payment(self, scope: TenantScope, payment_id: UUID) -> Payment:
        async with self.database.tenant(scope) as session:
            found = await queries.find_payment(session, scope, payment_id)
        assert found is not None
        return found

    async def balance_nano(self, scope: TenantScope) -> int:
        async with self.database.tenant(scope) as session:
            return (await read_balance(session, scope)).available_nano

    async def events(self) -> list[bytes]:
        """All that Stripe has to tell, oldest first, as it would send it."""
        found = await (await self.client()).v1.events.list_async({"limit": 100})
        return [msgspec.json.encode(event.to_dict()) for event in found.data][::-1]

    async def hear(self, *bodies: bytes) -> list[str]:
        return [await self.office.hear(body, self.sign(body)) for body in bodies]

    async def hear_all(self) -> list[str]:
        return await self.hear(*await self.events())

    def sign(self, body: bytes, *, secret: str | None = None, timestamp: int | None = None) -> str:
        header: str = sdk.WebhookSignature.generate_signature_header(
            body.decode(), secret or self.stripe.webhook_secret, timestamp
        )
        return header

    async def sql(self, statement: str, **values: object) -> Sequence[Any]:
        """As the superuser."""
        async with self.engine.connect() as connection:
            result = await connection.execute(text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    async def client(self) -> sdk.StripeClient:
        """For what somebody does at Stripe by hand."""
        made = await self.office.service()
        assert isinstance(made, StripeService)
        return made._client

    async def customer(self, scope: TenantScope) -> str:
        async with self.database.tenant(scope) as session:
            found = await queries.customer_of(session, scope.tenant_id)
        assert found is not None
        return found

    async def set_credit_limit(self, scope: TenantScope, units: int) -> None:
        async with self.database.operator() as session:
            await set_credit_limit(session, scope.tenant_id, units * NANO_PER_UNIT)

    async def assert_sound(self) -> None:
        """What `chappe ledger verify` looks at."""
        async with self.database.audit() as session:
            difference = await verify_ledger(session)
        assert difference is None, difference
