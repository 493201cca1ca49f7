"""What the quotas' tests call: the API as a tenant and as the operator, and a region that leases and posts."""

from typing import Any
from uuid import UUID

import httpx
import msgspec

from chappe_kernel.ids import TENANT, encode_id, new_id
from chappe_kernel.wire import control as wire
from chappe_store.session import Database
from tests.control.conftest import seed
from tests.control.running import RunningControl
from tests.control.world import Cell, Tenant
from tests.pages.browser import PORTAL_URL, Visitor

ADMINISTRATOR = "administrator@operator.example"


class Shop:
    def __init__(self, control: RunningControl) -> None:
        self.control = control
        self.database: Database = control.database
        self.paris = Cell("fr-par", control.http, control.clock)
        self.administrator = Visitor(control.http)

    async def tenant(self, name: str = "Alice") -> Tenant:
        """With 600 requests per minute in its contract, one project, and three keys."""
        return await seed(self.database, f"{name} {new_id()}")

    async def api(self, tenant: Tenant, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.control.http.request(method, f"/api/v1{path}", headers=tenant.headers() | headers, json=body)

    async def operate(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """As the operator's administrator, signed in to the console."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"origin": PORTAL_URL}
        return await self.administrator.request(method, f"/api/v1/operator{path}", headers=headers, json=body)

    async def set_quota(self, tenant: Tenant, **fields: Any) -> dict[str, Any]:
        answer = await self.api(tenant, "POST", "/quotas", fields)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def effective(self, tenant: Tenant, query: str = "") -> dict[str, Any]:
        answer = await self.api(tenant, "GET", f"/quotas/effective{query}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def project_id(self, tenant: Tenant) -> str:
        found: str = (await self.api(tenant, "GET", "/projects")).json()["items"][0]["id"]
        return found

    async def key_id(self, tenant: Tenant, name: str = "inference") -> str:
        keys = (await self.api(tenant, "GET", "/keys")).json()["items"]
        return next(str(key["id"]) for key in keys if key["name"] == name)

    async def facts(self, tenant: Tenant, key: str = "inference") -> wire.KeyFacts:
        found = await self.paris.resolve(tenant.keys[key])
        assert found is not None
        return found

    async def limits(self, tenant: Tenant, key: str = "inference") -> list[tuple[str, str | None, int | None]]:
        """What a gateway is told: whose, for which model, requests per minute."""
        facts = await self.facts(tenant, key)
        return [(limit.scope.partition(":")[0], limit.model, limit.requests_per_minute) for limit in facts.limits]

    async def lease(
        self, tenant: Tenant, wanted_nano: int, minimum_nano: int = 1, key: str = "inference"
    ) -> httpx.Response:
        """As a gateway does for this key: within the budgets that it was told of."""
        return await self.ask(await self.facts(tenant, key), wanted_nano, minimum_nano)

    async def ask(self, facts: wire.KeyFacts, wanted_nano: int, minimum_nano: int) -> httpx.Response:
        budgets = tuple(budget.id for budget in facts.budgets)
        ask = wire.AskGrant(new_id(), facts.tenant_id, "gw-1", wanted_nano, minimum_nano, budgets)
        return await self.paris.call("POST", "/grants", ask)

    async def give_back(self, grant_id: UUID | str, returned_nano: int) -> None:
        answer = await self.paris.call("PUT", f"/grants/{grant_id}/returned", wire.ReturnGrant(returned_nano))
        assert answer.status_code == 204, answer.text

    async def outbox(self, topic: str, tenant: Tenant) -> list[dict[str, Any]]:
        """All that ever went into it, delivered or not, oldest first."""
        async with self.control.engine.connect() as connection:
            rows = await connection.exec_driver_sql(
                "SELECT payload FROM told WHERE topic = $1 AND payload ->> 'tenant_id' = $2 ORDER BY id",
                (topic, show(tenant)),
            )
            return [payload if isinstance(payload, dict) else msgspec.json.decode(payload) for (payload,) in rows]

    async def sql(self, statement: str, *values: Any) -> None:
        """As the superuser."""
        async with self.control.engine.connect() as connection:
            await connection.exec_driver_sql(statement, values or None)


def show(tenant: Tenant) -> str:
    return encode_id(TENANT, tenant.id)
