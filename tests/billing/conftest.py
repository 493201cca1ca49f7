"""A market to bill in: two regions, one listing with a price in each, tenants with keys and money."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from chappe_billing.balance.queries import Balance, read_balance
from chappe_billing.credit.service import give_welcome_credit
from chappe_billing.grants.service import ask_grant
from chappe_billing.grants.terms import GrantTerms
from chappe_billing.prices.service import publish_price
from chappe_billing.usage.service import ingest
from chappe_catalogue.listings.models import Listing
from chappe_catalogue.publishers.models import Publisher
from chappe_catalogue.regions.models import Region
from chappe_kernel.ids import KeyId, ProjectId, TenantId, new_id
from chappe_kernel.rating import Counts, Outcome, Price, charge
from chappe_kernel.wire import control as wire
from chappe_store.session import Database, TenantScope
from chappe_tenants.api_keys.models import ApiKey
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.projects.models import Project

TERMS = GrantTerms(admit_s=30, settle_s=180, release_s=200)
PRICE = Price(input_nano_per_token=60, cached_input_nano_per_token=15, output_nano_per_token=210, request_nano=7)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Customer:
    """A tenant with one project and one key."""

    tenant_id: TenantId
    project_id: ProjectId
    key_id: KeyId

    @property
    def scope(self) -> TenantScope:
        return TenantScope(self.tenant_id)


@dataclass(frozen=True)
class Market:
    """What the tests buy from, and shorthands for what a region does."""

    database: Database
    listing_id: UUID
    listing: str = "tiny-chat"
    prices: dict[str, UUID] = field(default_factory=dict)

    async def ask(self, customer: Customer, wanted_nano: int, minimum_nano: int = 1, **changes: object) -> wire.Grant:
        region = str(changes.pop("region", "fr-par"))
        values: dict[str, object] = {
            "grant_id": new_id(),
            "tenant_id": customer.tenant_id,
            "gateway": "gw-1",
            "wanted_nano": wanted_nano,
            "minimum_nano": minimum_nano,
        }
        ask = wire.AskGrant(**(values | changes))  # type: ignore[arg-type]  # a test may change any field
        async with self.database.ingest() as session:
            return await ask_grant(session, region=region, ask=ask, terms=TERMS)

    def event(self, customer: Customer, grant_id: UUID, **changes: object) -> wire.UsageEvent:
        """A sound event in fr-par, but for `changes`; its amount is rated unless it is given."""
        counts = changes.get("counts", Counts(100, 20, 30))
        outcome = changes.get("outcome", Outcome.COMPLETED)
        assert isinstance(counts, Counts)
        assert isinstance(outcome, Outcome)
        amount = charge(PRICE, outcome, counts)
        values: dict[str, object] = {
            "request_id": new_id(),
            "tenant_id": customer.tenant_id,
            "project_id": customer.project_id,
            "key_id": customer.key_id,
            "grant_id": grant_id,
            "listing": self.listing,
            "price_version": self.prices["fr-par"],
            "outcome": outcome,
            "counts": counts,
            "amount_nano": amount,
            "hold_nano": max(amount, 50_000),
            "started_at": NOW,
            "finished_at": NOW,
        }
        return wire.UsageEvent(**(values | changes))  # type: ignore[arg-type]  # a test may change any field

    async def ingest(
        self, *events: wire.UsageEvent, region: str = "fr-par", gateway: str = "gw-1"
    ) -> wire.UsageReceipt:
        async with self.database.ingest() as session:
            return await ingest(session, region=region, batch=wire.UsageBatch(gateway, events))

    async def balance(self, customer: Customer) -> Balance:
        async with self.database.tenant(customer.scope) as session:
            return await read_balance(session, customer.scope)

    async def scalar(self, statement: str, **parameters: object) -> Any:
        """A look at the database as the operator."""
        async with self.database.operator() as session:
            return (await session.execute(text(statement), parameters)).scalar_one()


MakeCustomer = Callable[..., Awaitable[Customer]]


@pytest.fixture
async def market(database: Database) -> Market:
    listing_id, publisher_id = new_id(), new_id()
    market = Market(database, listing_id)
    async with database.operator() as session:
        session.add(Publisher(id=publisher_id, name="maker", title="Maker"))
        for position, (name, jurisdiction) in enumerate((("fr-par", "FR"), ("de-fra", "DE"))):
            url = f"http://127.0.0.1:{8411 + 10 * position}"
            session.add(Region(name=name, jurisdiction=jurisdiction, gateway_url=url, position=position))
        await session.flush()
        session.add(
            Listing(
                id=listing_id,
                name=market.listing,
                publisher_id=publisher_id,
                task="chat",
                currency="EUR",
                context_tokens=2048,
                template_tokens=64,
                default_output_tokens=512,
                max_output_tokens=1024,
            )
        )
        await session.flush()
        for region in ("fr-par", "de-fra"):
            market.prices[region] = await publish_price(
                session, listing_id=listing_id, region=region, currency="EUR", price=PRICE
            )
    return market


@pytest.fixture
def make_customer(database: Database) -> MakeCustomer:
    async def make(funds_nano: int = 10_000_000_000) -> Customer:
        customer = Customer(TenantId(new_id()), ProjectId(new_id()), KeyId(new_id()))
        async with database.operator() as session:
            session.add(
                Tenant(
                    id=customer.tenant_id,
                    name="Customer",
                    state="active",
                    currency="EUR",
                    allowed_regions=["fr-par", "de-fra"],
                    requests_per_minute=600,
                )
            )
            await session.flush()
            session.add(Project(tenant_id=customer.tenant_id, id=customer.project_id, name="default"))
            await session.flush()
            session.add(
                ApiKey(
                    tenant_id=customer.tenant_id,
                    id=customer.key_id,
                    project_id=customer.project_id,
                    kind="inference",
                    name="key",
                    prefix="ck_itest",
                    pepper_version=1,
                    digest=customer.key_id.bytes * 2,
                )
            )
            await session.flush()
            await give_welcome_credit(session, customer.tenant_id, funds_nano, "EUR")
        return customer

    return make


@pytest.fixture
async def customer(market: Market, make_customer: MakeCustomer) -> Customer:
    """Has 10 EUR."""
    return await make_customer()
