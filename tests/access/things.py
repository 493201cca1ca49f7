"""What paths name, made anew for whoever asks: things of Alpha's, of the operator's, of a region's."""

from chappe_kernel.ids import REQUEST, TENANT, encode_id, new_id
from tests.access.world import AccessWorld, Caller, make_tenant, make_token, unlike


async def a_key(access: AccessWorld) -> dict[str, str]:
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/keys", {"name": unlike("key")})
    return {"key_id": made["id"]}


async def a_project(access: AccessWorld) -> dict[str, str]:
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/projects", {"name": unlike("project")})
    return {"project_id": made["id"]}


async def a_service_account(access: AccessWorld) -> dict[str, str]:
    """With its project, for pages that name both."""
    project = await a_project(access)
    body = {**project, "name": unlike("program"), "scopes": ["inference"]}
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/service-accounts", body)
    return {**project, "service_account_id": made["id"]}


async def a_tenant(access: AccessWorld) -> dict[str, str]:
    tenant = await make_tenant(access.control, unlike("tenant"))
    return {"tenant_id": encode_id(TENANT, tenant.id)}


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
