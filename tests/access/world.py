"""A control plane with two tenants and everybody who could call it: whoever they are, and as what they show up."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx

from chappe_control.seeding.schemas import Seed, SeedKey, SeedTenant
from chappe_control.seeding.service import plant_seed
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.ids import PROJECT, encode_id
from chappe_store.session import TenantScope
from chappe_tenants.members.service import Role, put_member
from chappe_tenants.operators.service import OperatorRole, put_operator
from chappe_tenants.projects.queries import oldest_project
from tests.control.running import RunningControl
from tests.control.world import CREDENTIALS, PEPPERS, WELCOME_NANO, Cell, Tenant
from tests.pages.browser import PASSWORD, Visitor


class Caller(StrEnum):
    """Everybody. Members and keys are Alpha's unless it says otherwise, and so is every thing that is asked for."""

    NOBODY = "nobody"
    UNKNOWN_KEY = "a key that nobody made"
    INFERENCE_KEY = "an inference key"
    MANAGEMENT_KEY = "a management key"
    OWNER = "an owner"
    ADMIN = "an admin"
    DEVELOPER = "a developer"
    BILLING = "a billing member"
    VIEWER = "a viewer"
    OTHER_KEY = "Beta's management key"
    OTHER_OWNER = "Beta's owner"
    ADMINISTRATOR = "an administrator of the operator's"
    SUPPORT = "the operator's support"
    FINANCE = "the operator's finance"
    AUDITOR = "the operator's auditor"
    ADMINISTRATOR_TOKEN = "a token for administrators"
    SUPPORT_TOKEN = "a token for support"
    FINANCE_TOKEN = "a token for finance"
    AUDITOR_TOKEN = "a token for auditors"
    REGION = "the region fr-par"
    OTHER_REGION = "the region de-fra"


MEMBER_ROLES = {
    Caller.OWNER: Role.OWNER,
    Caller.ADMIN: Role.ADMIN,
    Caller.DEVELOPER: Role.DEVELOPER,
    Caller.BILLING: Role.BILLING,
    Caller.VIEWER: Role.VIEWER,
}
OPERATOR_ROLES = {
    Caller.ADMINISTRATOR: OperatorRole.ADMINISTRATOR,
    Caller.SUPPORT: OperatorRole.SUPPORT,
    Caller.FINANCE: OperatorRole.FINANCE,
    Caller.AUDITOR: OperatorRole.AUDITOR,
}
TOKENS = {
    Caller.ADMINISTRATOR: Caller.ADMINISTRATOR_TOKEN,
    Caller.SUPPORT: Caller.SUPPORT_TOKEN,
    Caller.FINANCE: Caller.FINANCE_TOKEN,
    Caller.AUDITOR: Caller.AUDITOR_TOKEN,
}
REGIONS = {Caller.REGION: "fr-par", Caller.OTHER_REGION: "de-fra"}


@dataclass(frozen=True)
class Home(Tenant):
    """A tenant, and the project that it began with."""

    project_id: str


@dataclass(frozen=True)
class Door:
    """How one caller comes in: a browser with its cookies, and what a program sends."""

    visitor: Visitor
    headers: Mapping[str, str]


@dataclass(frozen=True)
class AccessWorld:
    control: RunningControl
    alpha: Home
    beta: Home
    doors: Mapping[Caller, Door]

    def home(self, caller: Caller) -> Home:
        """Where a caller belongs. Who belongs nowhere asks as if they were Alpha's."""
        return self.beta if caller in {Caller.OTHER_KEY, Caller.OTHER_OWNER} else self.alpha

    @property
    def http(self) -> httpx.AsyncClient:
        return self.control.http

    def cell(self, region: str = "fr-par") -> Cell:
        return Cell(region, self.http, self.control.clock)

    async def call(
        self, caller: Caller | Door, method: str, path: str, body: Any = None, **headers: str
    ) -> httpx.Response:
        """As a program calls an API. Whoever comes with a cookie sends `Origin` too, as a browser's script does; what
        updates something updates it whatever it is by now. Further headers: `if_match='"…"'`."""
        door = caller if isinstance(caller, Door) else self.doors[caller]
        sent = {"origin": door.visitor.portal_url, **door.headers}
        if method in {"PATCH", "PUT", "DELETE"}:
            sent["if-match"] = "*"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await door.visitor.request(method, path, headers=sent, json=body)

    async def made(self, caller: Caller, path: str, body: Any) -> dict[str, Any]:
        """What this caller just made with a POST."""
        answer = await self.call(caller, "POST", path, body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def last_change(self) -> int:
        """The number of the audit log's last entry: it stays while nothing changes."""
        async with self.control.engine.connect() as connection:
            found = await connection.exec_driver_sql("SELECT coalesce(max(sequence), 0) FROM audit_entry")
            return int(found.scalar_one())


def an_address() -> str:
    """Where nobody else reads mail."""
    return f"{secrets.token_hex(6)}@example.eu"


def unlike(word: str = "thing") -> str:
    """A name that nothing else has."""
    return f"{word} {secrets.token_hex(4)}"


async def make_world(control: RunningControl) -> AccessWorld:
    alpha, beta = await make_tenant(control, "Alpha"), await make_tenant(control, "Beta")
    doors = {caller: _program(control, headers) for caller, headers in _programs(alpha, beta).items()}
    for caller, role in MEMBER_ROLES.items():
        doors[caller] = Door(await sign_in_member(control, alpha, role), {})
    doors[Caller.OTHER_OWNER] = Door(await sign_in_member(control, beta, Role.OWNER), {})
    for caller, operator_role in OPERATOR_ROLES.items():
        doors[caller] = Door(await sign_in_operator(control, operator_role), {})
        secret = (await make_token(doors[caller].visitor))["secret"]
        doors[TOKENS[caller]] = _program(control, {"authorization": f"Bearer {secret}"})
    return AccessWorld(control, alpha, beta, doors)


async def make_tenant(control: RunningControl, name: str) -> Home:
    """A tenant with a project, money, and a key of each kind."""
    keys = {kind.value: generate_key(kind) for kind in KeyKind}
    seed = Seed(
        tenant=SeedTenant(name=name, allowed_regions=("fr-par", "DE"), requests_per_minute=600),
        project="default",
        keys=tuple(SeedKey(kind.value, kind, keys[kind.value]) for kind in KeyKind),
    )
    async with control.database.operator() as session:
        tenant_id = await plant_seed(session, seed, peppers=PEPPERS, welcome_credit_nano=WELCOME_NANO)
        project = await oldest_project(session, TenantScope(tenant_id))
    assert project is not None
    return Home(tenant_id, keys, encode_id(PROJECT, project.id))


async def sign_in_member(control: RunningControl, tenant: Tenant, role: Role) -> Visitor:
    """A new member of the tenant, in a browser of their own."""
    email = f"{role}-{secrets.token_hex(4)}@example.eu"
    async with control.database.operator() as session:
        await put_member(session, TenantScope(tenant.id), email=email, password=PASSWORD, role=role)
    visitor = Visitor(control.http, control.settings.portal_url)
    await visitor.sign_in(email)
    return visitor


async def sign_in_operator(control: RunningControl, role: OperatorRole) -> Visitor:
    email = f"{role}-{secrets.token_hex(4)}@operator.example"
    async with control.database.operator() as session:
        await put_operator(session, email=email, password=PASSWORD, role=role)
    visitor = Visitor(control.http, control.settings.portal_url)
    await visitor.console_sign_in(email)
    return visitor


async def make_token(visitor: Visitor, **fields: Any) -> dict[str, Any]:
    """A token of whoever is signed in to the console."""
    answer = await visitor.request(
        "POST",
        "/api/v1/operator/tokens",
        headers={"origin": visitor.portal_url},
        json={"name": unlike("token"), **fields},
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def _programs(alpha: Home, beta: Home) -> dict[Caller, dict[str, str]]:
    return {
        Caller.NOBODY: {},
        Caller.UNKNOWN_KEY: {"authorization": f"Bearer {generate_key(KeyKind.MANAGEMENT)}"},
        Caller.INFERENCE_KEY: alpha.headers("inference"),
        Caller.MANAGEMENT_KEY: alpha.headers("management"),
        Caller.OTHER_KEY: beta.headers("management"),
        **{caller: {"authorization": f"Bearer {CREDENTIALS[region]}"} for caller, region in REGIONS.items()},
    }


def _program(control: RunningControl, headers: Mapping[str, str]) -> Door:
    return Door(Visitor(control.http, control.settings.portal_url), headers)
