"""Buyers of a seller in France."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import update

from chappe_kernel.ids import TenantId
from chappe_store.session import Database
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID, LegalEntity
from chappe_tenants.organisations.service import create_organisation

MakeBuyer = Callable[..., Awaitable[TenantId]]


@pytest.fixture
async def buyer(database: Database) -> MakeBuyer:
    async with database.operator() as session:
        await session.execute(
            update(LegalEntity)
            .where(LegalEntity.id == DEFAULT_LEGAL_ENTITY_ID)
            .values(country="FR", postal_code="75007", vat_number="FR40303265045")
        )

    async def make(**details: str | None) -> TenantId:
        async with database.operator() as session:
            scope = await create_organisation(
                session, name="Buyer", allowed_regions=["FR"], requests_per_minute=600, details=details
            )
        return scope.tenant_id

    return make
