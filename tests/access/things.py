"""What paths name, made anew for whoever asks: things of Alpha's, of the operator's, of a region's."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from chappe_kernel.ids import INVITATION, MEMBER, REQUEST, TENANT, decode_id, encode_id, new_id
from chappe_store.session import TenantScope
from chappe_tenants.members.queries import list_members
from chappe_tenants.members.service import Role, put_member
from tests.access.world import AccessWorld, Caller, an_address, make_tenant, make_token, unlike
from tests.control.world import CHAT
from tests.pages.browser import PASSWORD

TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
RAISE = {"requests_per_minute": 6000, "reason": "launch", "ends_at": f"{TOMORROW}T00:00:00Z"}


async def a_key(access: AccessWorld) -> dict[str, str]:
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/keys", {"name": unlike("key")})
    return {"key_id": made["id"]}


async def a_member(access: AccessWorld) -> dict[str, str]:
    """Alpha's, and no owner."""
    scope, email = TenantScope(access.alpha.id), an_address()
    async with access.control.database.operator() as session:
        await put_member(session, scope, email=email, password=PASSWORD, role=Role.DEVELOPER)
        (member,) = await list_members(session, scope, limit=1, before=None)
    return {"member_id": encode_id(MEMBER, member.id)}


async def an_invitation(access: AccessWorld) -> dict[str, str]:
    """Sent long enough ago to be sent again."""
    made = await access.made(Caller.OWNER, "/api/v1/invitations", {"email": an_address(), "role": "viewer"})
    async with access.control.engine.connect() as connection:
        await connection.exec_driver_sql(
            "UPDATE invitation SET sent_at = sent_at - interval '1 hour' WHERE id = $1",
            (decode_id(INVITATION, made["id"]),),
        )
    return {"invitation_id": made["id"]}


async def a_project(access: AccessWorld) -> dict[str, str]:
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/projects", {"name": unlike("project")})
    return {"project_id": made["id"]}


async def a_service_account(access: AccessWorld) -> dict[str, str]:
    """With its project, for pages that name both."""
    project = await a_project(access)
    body = {**project, "name": unlike("program"), "scopes": ["inference"]}
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/service-accounts", body)
    return {**project, "service_account_id": made["id"]}


async def a_quota(access: AccessWorld) -> dict[str, str]:
    """Of a project of Alpha's."""
    body = {**await a_project(access), "requests_per_minute": 4}
    return {"quota_id": (await access.made(Caller.MANAGEMENT_KEY, "/api/v1/quotas", body))["id"]}


async def no_own_quota(access: AccessWorld) -> dict[str, str]:
    """No organisation has limited itself."""
    async with access.control.engine.connect() as connection:
        await connection.exec_driver_sql("DELETE FROM quota WHERE level = 'tenant'")
    return {}


async def a_contracts_quota(access: AccessWorld) -> dict[str, str]:
    tenant = await a_tenant(access)
    path = f"/api/v1/operator/tenants/{tenant['tenant_id']}/quotas"
    made = await access.made(Caller.ADMINISTRATOR, path, {"model": CHAT, "requests_per_minute": 50})
    return {**tenant, "quota_id": made["id"]}


async def a_raise(access: AccessWorld) -> dict[str, str]:
    tenant = await a_tenant(access)
    path = f"/api/v1/operator/tenants/{tenant['tenant_id']}/quota-raises"
    return {**tenant, "raise_id": (await access.made(Caller.ADMINISTRATOR, path, RAISE))["id"]}


async def a_plan(access: AccessWorld) -> dict[str, str]:
    body = {"name": unlike("plan").replace(" ", "-"), "title": "Plan"}
    return {"plan": (await access.made(Caller.ADMINISTRATOR, "/api/v1/operator/plans", body))["name"]}


async def a_tenant(access: AccessWorld) -> dict[str, str]:
    tenant = await make_tenant(access.control, unlike("tenant"))
    return {"tenant_id": encode_id(TENANT, tenant.id)}


async def a_customer(access: AccessWorld) -> dict[str, str]:
    """Of Alpha's, which is made a reseller for it."""
    await _make_reseller(access)
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/customers", {"name": unlike("customer")})
    return {"customer_id": made["id"]}


async def nothing_but_a_reseller(access: AccessWorld) -> dict[str, str]:
    """No thing: Alpha may have customers afterwards."""
    await _make_reseller(access)
    return {}


async def _make_reseller(access: AccessWorld) -> None:
    async with access.control.database.operator() as session:
        await session.execute(text("UPDATE tenant SET is_reseller = true WHERE id = :id"), {"id": access.alpha.id})


async def a_token(access: AccessWorld) -> dict[str, str]:
    """An administrator's."""
    return {"token_id": (await make_token(access.doors[Caller.ADMINISTRATOR].visitor))["id"]}


async def a_request(access: AccessWorld) -> dict[str, str]:
    """One that ran in fr-par and was settled."""
    cell = access.cell()
    (event,) = await cell.use(access.alpha.keys["inference"], await cell.lease(access.alpha.id))
    return {"request_id": encode_id(REQUEST, event.request_id)}


async def a_grant(access: AccessWorld) -> dict[str, str]:
    """Budget that fr-par holds."""
    return {"grant_id": str(await access.cell().lease(access.alpha.id))}


async def an_asset(access: AccessWorld) -> dict[str, str]:
    page = (await access.http.get("/sign-in", headers={"host": "localhost:8400"})).text
    return {"name": page.split("/static/")[1].split('"')[0]}


async def no_request(_: AccessWorld) -> dict[str, str]:
    """One that nobody has settled, or that is not there: the playground cannot tell."""
    return {"request_id": encode_id(REQUEST, new_id())}
