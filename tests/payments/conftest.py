"""A seller in France that collects by the local Stripe, and buyers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chappe_billing.payments.service import Bounds
from chappe_billing.payments.stripe_service import StripeSettings
from chappe_control.payments.office import PaymentOffice
from chappe_local import postgres as embedded
from chappe_store.session import Database
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID, LegalEntity
from tests.conftest import TESTS, DatabaseUrls, PostgresServer
from tests.control.world import HandClock
from tests.invoices.conftest import MakeBuyer, Office, buyer, make_customer, market, office
from tests.money.conftest import cut
from tests.money.cut import Cut
from tests.payments.collecting import Collector
from tests.payments.world import PaymentWorld
from tests.stripe_server import LocalStripe, local_stripe

__all__ = ["buyer", "cut", "make_customer", "market", "office"]


@pytest.fixture
async def stripe(tmp_path: Path) -> AsyncIterator[LocalStripe]:
    # An address that is never called: tests deliver events themselves, as often and in whatever order they like.
    async with local_stripe(tmp_path, webhooks_to=["http://127.0.0.1:9/webhooks"]) as running:
        await running.switch("webhooks", hold=True)
        yield running


@pytest.fixture
async def world(database: Database, database_urls: DatabaseUrls, stripe: LocalStripe) -> AsyncIterator[PaymentWorld]:
    async with database.operator() as session:
        await session.execute(
            update(LegalEntity)
            .where(LegalEntity.id == DEFAULT_LEGAL_ENTITY_ID)
            .values(country="FR", postal_code="75007", vat_number="FR40303265045", payments="stripe")
        )
    clock = HandClock()
    settings = StripeSettings(stripe.api_key, stripe.webhook_secret, stripe.url)
    office = PaymentOffice(settings, database, clock, Bounds())
    engine = create_async_engine(database_urls.superuser, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    yield PaymentWorld(database, stripe, office, clock, engine)
    await engine.dispose()
    await office.close()


@pytest.fixture
def collector(world: PaymentWorld, office: Office, buyer: MakeBuyer) -> Collector:
    return Collector(world, office, buyer)


@pytest.fixture
async def crashing(
    world: PaymentWorld, cut: Cut, postgres: PostgresServer, database_urls: DatabaseUrls
) -> AsyncIterator[PaymentOffice]:
    """The same office, over a way to its database that can be cut."""
    url = embedded.database_url(cut.dir, embedded.LOGIN, postgres.passwords.control, database_urls.name)
    database = Database(url, pool_size=1, origin=TESTS)
    settings = StripeSettings(world.stripe.api_key, world.stripe.webhook_secret, world.stripe.url)
    office = PaymentOffice(settings, database, world.clock, Bounds())
    yield office
    await office.close()
    await database.close()
