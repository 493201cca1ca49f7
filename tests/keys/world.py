"""Organisations and the programs that manage them, over HTTP."""

import secrets
from dataclasses import dataclass
from typing import Any

import httpx

from chappe_kernel.api_keys import KeyKind
from chappe_kernel.ids import PROJECT, ProjectId, TenantId, encode_id
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.service import KeyOrder, create_key
from chappe_tenants.members.service import Role
from chappe_tenants.organisations.service import create_organisation
from chappe_tenants.projects.service import create_project
from tests.control.running import RunningControl
from tests.control.world import PEPPERS, Cell
from tests.pages.browser import Visitor

JURISDICTIONS = {"fr-par": "FR", "de-fra": "DE"}
OLD = "*"
"""As `If-Match`: whatever it is by now."""


@dataclass(frozen=True)
class Program:
    """A management key of an organisation's, and its first project."""

    http: httpx.AsyncClient
    tenant_id: TenantId
    secret: str
    project: str

    async def call(self, method: str, path: str, body: Any = None, *, if_match: str | None = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.secret}"} | ({} if if_match is None else {"if-match": if_match})
        return await self.http.request(method, f"/api/v1{path}", headers=headers, json=body)

    async def get(self, path: str) -> Any:
        answer = await self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def make(self, path: str, **body: Any) -> Any:
        answer = await self.call("POST", path, body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def key(self, **body: Any) -> Any:
        return await self.make("/keys", **{"name": "made"} | body)

    async def change(self, path: str, **body: Any) -> Any:
        answer = await self.call("PATCH", path, body, if_match=OLD)
        assert answer.status_code == 200, answer.text
        return answer.json()


@dataclass(frozen=True)
class KeysWorld:
    control: RunningControl

    @property
    def paris(self) -> Cell:
        return Cell("fr-par", self.control.http, self.control.clock)

    async def organisation(self, name: str) -> Program:
        async with self.control.database.operator() as session:
            scope = await create_organisation(
                session, name=name, allowed_regions=["fr-par", "DE"], requests_per_minute=600
            )
            project = await create_project(session, scope, name="default", regions=None, jurisdiction_of=JURISDICTIONS)
            _, secret = await create_key(
                session,
                scope,
                ProjectId(project.id),
                KeyOrder("management", KeyKind.MANAGEMENT),
                peppers=PEPPERS,
                jurisdiction_of=JURISDICTIONS,
            )
        return Program(self.control.http, scope.tenant_id, secret, encode_id(PROJECT, project.id))

    async def member(self, role: Role) -> tuple[Visitor, TenantScope]:
        """Somebody who signed up, in this role from then on."""
        visitor = Visitor(self.control.http, self.control.settings.portal_url)
        email = await visitor.sign_up(f"Organisation {secrets.token_hex(4)}")
        ((tenant_id,),) = await self.sql(f"SELECT tenant_id FROM member WHERE email = '{email}'")
        if role is not Role.OWNER:
            # Around the triggers, which would have an organisation keep its owner.
            demotion = f"UPDATE member SET role = '{role}' WHERE email = '{email}'"
            await self.sql("SET session_replication_role = replica", demotion)
        return visitor, TenantScope(TenantId(tenant_id))

    async def sql(self, *statements: str) -> list[Any]:
        """As the superuser, on one connection: the rows of the last one."""
        rows: list[Any] = []
        async with self.control.engine.connect() as connection:
            for statement in statements:
                result = await connection.exec_driver_sql(statement)
                rows = [tuple(row) for row in result.all()] if result.returns_rows else []
        return rows

    async def opens(self, secret: str) -> bool:
        """Whether a gateway that asks now would let it in."""
        return await self.paris.resolve(secret) is not None
