"""Tenants: the list, and the page of each."""

from datetime import datetime
from typing import Any

from litestar import Response, get
from litestar.params import FromPath

from chappe_billing.figures.queries import sum_by_offer
from chappe_control.console.rendering import ConsoleRequest, console_fragment, console_page
from chappe_control.console.tenants import queries
from chappe_control.console.tenants.paging import encode_after, read_listing
from chappe_control.console.tenants.texts import KEY_KINDS, TRANSACTIONS
from chappe_control.operator_api.tenants import scope_of
from chappe_control.pages.organisation_forms import country_name
from chappe_control.pages.organisation_texts import REASONS, RELATIONS, STATES, step_text
from chappe_control.pages.roles import MEMBER_ROLES
from chappe_control.permissions import Permission, may
from chappe_control.state import Given, Services
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import TENANT, encode_id
from chappe_store.queries import read_now
from chappe_tenants.legal_entities.service import get_entity
from chappe_tenants.organisations.lifecycle import Authority
from chappe_tenants.organisations.queries import count_by_state
from chappe_tenants.organisations.schemas import steps_of


@get("/tenants", permission=Permission.SEE_TENANTS)
async def show_tenants(request: ConsoleRequest, services: Given) -> Response[bytes]:
    return console_page(request, "console/tenants.html", **await _list_values(request, services))


@get("/tenants/live", permission=Permission.SEE_TENANTS)
async def show_tenants_live(request: ConsoleRequest, services: Given) -> Response[bytes]:
    return console_fragment(request, "console/tenants_live.html", **await _list_values(request, services))


@get("/tenants/{tenant_id:str}", permission=Permission.SEE_TENANTS)
async def show_tenant(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[bytes]:
    return console_page(request, "console/tenant.html", **await _tenant_values(request, services, tenant_id))


@get("/tenants/{tenant_id:str}/live", permission=Permission.SEE_TENANTS)
async def show_tenant_live(request: ConsoleRequest, services: Given, tenant_id: FromPath[str]) -> Response[bytes]:
    return console_fragment(request, "console/tenant_live.html", **await _tenant_values(request, services, tenant_id))


async def _list_values(request: ConsoleRequest, services: Services) -> dict[str, Any]:
    listing = read_listing(request.query_params)
    async with services.database.audit() as session:
        now = await read_now(session)
        rows, more = queries.shown(await queries.list_tenants(session, listing, _begin_of_month(now)))
        count = await queries.count_tenants(session, listing)
        by_state = await count_by_state(session)
    return {
        "rows": rows,
        "count": count,
        "by_state": by_state,
        "listing": listing,
        "next_cursor": encode_after(queries.after(rows[-1], listing)) if more else None,
        "now": now,
        "states": STATES,
        "show_id": _show_id,
    }


async def _tenant_values(request: ConsoleRequest, services: Services, text: str) -> dict[str, Any]:
    scope = scope_of(text)
    sees_members = may(request.auth.role, Permission.SEE_TENANT_MEMBERS)
    async with services.database.audit() as session:
        now = await read_now(session)
        tenant = await queries.read_tenant(session, scope, _begin_of_month(now))
        details = await queries.read_details(session, scope)
        if tenant is None or details is None:
            raise NotFound("no such organisation")
        usage = await sum_by_offer(session, scope)
        keys = await queries.list_keys(session, scope)
        members = await queries.list_members(session, scope) if sees_members else []
        transactions = await queries.last_transactions(session, scope)
        related = await queries.list_related(session, details)
        history = await queries.list_steps(session, scope)
        seller = await get_entity(session, details.legal_entity_id)
    return {
        "tenant": tenant,
        "details": details,
        "seller": seller,
        "related": related,
        "history": history,
        "steps": [(step, step_text(details.state, step.state)) for step in steps_of(details, Authority.OPERATOR)],
        "tenant_id": encode_id(TENANT, tenant.id),
        "usage": usage,
        "keys": keys,
        "members": members,
        "sees_members": sees_members,
        "transactions": transactions,
        "now": now,
        "states": STATES,
        "reasons": REASONS,
        "relations": RELATIONS,
        "country_name": lambda code: country_name(request, code),
        "show_id": _show_id,
        "key_kinds": KEY_KINDS,
        "member_roles": MEMBER_ROLES,
        "transaction_kinds": TRANSACTIONS,
    }


def _show_id(row: queries.TenantRow | queries.RelatedRow) -> str:
    return encode_id(TENANT, row.id)


def _begin_of_month(now: datetime) -> datetime:
    """Of the database's time, which is in UTC."""
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
