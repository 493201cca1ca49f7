"""Organisations with somebody signed in and keys of both kinds, and the operator's people: all through real routes."""

import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx

from chappe_control.seeding.schemas import Seed, SeedKey, SeedPerson, SeedTenant
from chappe_control.seeding.service import plant_seed
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.ids import TENANT, TenantId, decode_id, encode_id
from chappe_store.session import TenantScope
from chappe_tenants.operators.service import OperatorRole
from tests.control.running import RunningControl
from tests.control.world import PEPPERS, Cell
from tests.pages.browser import PASSWORD, Visitor
from tests.portal.reading import Element, read_page

DETAILS: dict[str, Any] = {
    "legal_name": "Exemple Télécom SAS",
    "address": {"line_1": "1 rue de la Paix", "postal_code": "75002", "city": "Paris", "country": "FR"},
    "vat_number": "FR 40 303 265 045",
    "contact": {"name": "Camille Martin", "email": "camille@exemple.example", "phone": "+33 1 23 45 67 89"},
}
"""All that the operator needs to verify an organisation."""


def address_of(role: OperatorRole) -> str:
    return f"{role}@operator.example"


@dataclass(frozen=True)
class Api:
    """`/api/v1` as a browser's script calls it, with the cookie of whoever is signed in."""

    visitor: Visitor

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        sent = {"origin": self.visitor.portal_url, "accept": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        rest = {} if body is None else {"json": body}
        return await self.visitor.request(method, f"/api/v1{path}", headers=sent, **rest)

    async def get(self, path: str, status: int = 200) -> Any:
        answer = await self.call("GET", path)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, body: Any, status: int, **headers: str) -> Any:
        answer = await self.call("POST", path, body, **headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def change(self, path: str, body: Any, status: int = 200, *, method: str = "PATCH", of: str = "") -> Any:
        """With the tag of what is at `of` (by default the same path) at this moment."""
        tag = (await self.call("GET", of or path)).headers["etag"]
        answer = await self.call(method, path, body, if_match=tag)
        assert answer.status_code == status, answer.text
        return answer.json()


@dataclass(frozen=True)
class Organisation:
    """A tenant with its owner signed in, and the secrets of its keys by kind."""

    id: TenantId
    name: str
    visitor: Visitor
    email: str
    keys: dict[str, str]

    @property
    def scope(self) -> TenantScope:
        return TenantScope(self.id)

    @property
    def public_id(self) -> str:
        return encode_id(TENANT, self.id)

    @property
    def api(self) -> Api:
        return Api(self.visitor)

    async def read(self, path: str, status: int = 200) -> Element:
        answer = await self.visitor.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
        return read_page(answer.text)


@dataclass(frozen=True)
class Organisations:
    control: RunningControl
    _signed_in: dict[OperatorRole, Visitor] = field(default_factory=dict)

    async def organisation(self, name: str = "", *, regions: tuple[str, ...] = ("fr-par", "de-fra")) -> Organisation:
        """An active one."""
        keys = {kind.value: generate_key(kind) for kind in KeyKind}
        email = f"mia-{secrets.token_hex(6)}@example.eu"
        made = name or f"org {secrets.token_hex(4)}"
        seed = Seed(
            tenant=SeedTenant(name=made, allowed_regions=regions, requests_per_minute=600),
            project="default",
            keys=tuple(SeedKey(kind.value, kind, keys[kind.value]) for kind in KeyKind),
            member=SeedPerson(email, PASSWORD),
        )
        async with self.control.database.operator() as session:
            tenant_id = await plant_seed(session, seed, peppers=PEPPERS, welcome_credit_nano=10**9)
        visitor = self.visitor()
        await visitor.sign_in(email)
        return Organisation(tenant_id, made, visitor, email, keys)

    async def reseller(self, *, regions: tuple[str, ...] = ("fr-par", "de-fra")) -> Organisation:
        made = await self.organisation(regions=regions)
        operator = await self.operator()
        await operator.change(f"/operator/tenants/{made.public_id}", {"is_reseller": True})
        return made

    async def operator(self, role: OperatorRole = OperatorRole.ADMINISTRATOR) -> Api:
        return Api(await self.operator_visitor(role))

    async def operator_visitor(self, role: OperatorRole = OperatorRole.ADMINISTRATOR) -> Visitor:
        """Signed in once for each role."""
        if role not in self._signed_in:
            self._signed_in[role] = self.visitor()
            await self._signed_in[role].console_sign_in(address_of(role))
        return self._signed_in[role]

    async def create(self, **fields: Any) -> dict[str, Any]:
        """A tenant by the operator's API."""
        body = {"name": f"org {secrets.token_hex(4)}", **fields}
        made: dict[str, Any] = await (await self.operator()).post("/operator/tenants", body, 201)
        return made

    async def step(self, tenant: str | TenantId, state: str, reason: str, status: int = 200) -> Any:
        """By the operator."""
        public_id = tenant if isinstance(tenant, str) else encode_id(TENANT, tenant)
        body = {"state": state, "reason": reason}
        return await (await self.operator()).post(f"/operator/tenants/{public_id}/transitions", body, status)

    def visitor(self, language: str = "en") -> Visitor:
        return Visitor(self.control.http, self.control.settings.portal_url, language=language)

    def cell(self, region: str = "fr-par") -> Cell:
        return Cell(region, self.control.http, self.control.clock)

    async def key_call(self, secret: str, path: str = "/organisation") -> httpx.Response:
        """`/api/v1` with a management key."""
        return await self.control.http.get(f"/api/v1{path}", headers={"authorization": f"Bearer {secret}"})

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """As the superuser."""
        async with self.control.engine.connect() as connection:
            result = await connection.exec_driver_sql(statement, values or None)
            return [tuple(row) for row in result.all()] if result.returns_rows else []


def tenant_id_of(view: dict[str, Any]) -> TenantId:
    return TenantId(decode_id(TENANT, view["id"]))
