"""Endpoints of a tenant's over a real database, delivered to a real server on the loopback."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from chappe_control.webhooks import queries, service
from chappe_control.webhooks.delivery import Courier
from chappe_control.webhooks.kinds import EventKind
from chappe_control.webhooks.models import WebhookEndpoint
from chappe_control.webhooks.sealing import SecretSeal
from chappe_control.webhooks.sending import make_sender
from chappe_control.webhooks.service import EndpointOrder, MadeEndpoint
from chappe_kernel.clock import SystemClock
from chappe_kernel.ids import new_id
from chappe_store.session import Database, TenantScope
from chappe_tenants.organisations.service import create_organisation
from tests.control.world import PEPPERS
from tests.webhooks.receiver import Receiver, receiving

SEAL = SecretSeal(PEPPERS)
ALL = tuple(kind for kind in EventKind if kind is not EventKind.TEST)


@dataclass
class Post:
    """One tenant with one endpoint, and who delivers."""

    database: Database
    scope: TenantScope
    made: MadeEndpoint
    receiver: Receiver
    courier: Courier

    @property
    def endpoint_id(self) -> UUID:
        return self.made.endpoint.id

    async def publish(self, kind: EventKind = EventKind.LOW_BALANCE, **data: Any) -> UUID:
        event_id = new_id()
        async with self.database.operator() as session:
            await service.publish(session, self.scope.tenant_id, event_id, kind, data)
        return event_id

    async def deliver(self) -> int:
        return await self.courier.deliver_due()

    async def pass_time(self, by: timedelta) -> None:
        """As if that had gone by for all that waits, and for the endpoint's failing."""
        async with self.database.operator() as session:
            for statement in (
                "UPDATE outbox SET due_at = due_at - CAST(:by AS interval) WHERE topic = 'webhook'",
                "UPDATE webhook_endpoint SET failing_since = failing_since - CAST(:by AS interval)",
            ):
                await session.execute(text(statement), {"by": by})

    async def log(self) -> list[queries.LoggedDelivery]:
        async with self.database.tenant(self.scope) as session:
            return await queries.list_deliveries(session, self.scope, self.endpoint_id, limit=50)

    async def endpoint(self) -> WebhookEndpoint:
        async with self.database.tenant(self.scope) as session:
            return await service.get_endpoint(session, self.scope, self.endpoint_id)

    async def outbox(self, topic: str) -> list[dict[str, Any]]:
        async with self.database.operator() as session:
            found = await session.scalars(
                text("SELECT payload FROM outbox WHERE topic = :topic ORDER BY id"), {"topic": topic}
            )
            return list(found)


def make_courier(database: Database) -> Courier:
    return Courier(database, SEAL, make_sender(to_loopback=True), SystemClock(), to_loopback=True)


async def make_tenant(database: Database, **details: Any) -> TenantScope:
    async with database.operator() as session:
        return await create_organisation(
            session, name=f"Tenant {new_id()}", allowed_regions=[], requests_per_minute=1, details=details
        )


async def make_endpoint(database: Database, scope: TenantScope, url: str, *kinds: str) -> MadeEndpoint:
    order = EndpointOrder(url=url, kinds=kinds or ALL)
    async with database.tenant(scope) as session:
        return await service.create_endpoint(session, scope, SEAL, order, to_loopback=True)


@pytest.fixture
async def post(database: Database) -> AsyncIterator[Post]:
    scope = await make_tenant(database)
    async with receiving() as receiver:
        made = await make_endpoint(database, scope, f"http://127.0.0.1:{receiver.port}/in")
        courier = make_courier(database)
        yield Post(database, scope, made, receiver, courier)
        courier.close()
