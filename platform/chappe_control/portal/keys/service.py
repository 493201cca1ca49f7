"""What the page of API keys shows and does."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.listings.queries import list_listings, sold_in, unknown_listings
from chappe_catalogue.regions.queries import list_regions, read_jurisdictions
from chappe_control.cursors import cut_page
from chappe_control.idempotency import service as idempotency
from chappe_control.idempotency.service import Call
from chappe_control.portal.choices import read_allowed_regions
from chappe_control.portal.keys.snippets import Offer, offers_for
from chappe_kernel.api_keys import Pepper
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import ProjectId
from chappe_kernel.residency import expand, narrow
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.queries import KeyRecord, list_keys
from chappe_tenants.api_keys.service import KeyOrder, create_key
from chappe_tenants.organisations.service import get_organisation
from chappe_tenants.projects.models import Project
from chappe_tenants.projects.queries import list_projects, oldest_project
from chappe_tenants.projects.service import MAX_PROJECTS, get_project
from chappe_tenants.service_accounts.models import ServiceAccount
from chappe_tenants.service_accounts.queries import list_service_accounts
from chappe_tenants.service_accounts.service import MAX_SERVICE_ACCOUNTS, get_service_account

KEYS_PER_PAGE = 25


class KeyChoices(Struct, frozen=True):
    """What a new key can be narrowed to, and whose it can be. `projects` are those that take keys, the oldest first."""

    projects: list[Project]
    regions: dict[str, str]
    """Jurisdictions by region, in the tenant's order of preference."""
    models: list[str]
    service_accounts: Sequence[ServiceAccount]


class KeysPage(Struct, frozen=True):
    keys: Sequence[KeyRecord]
    next_cursor: str | None
    project_names: Mapping[UUID, str]
    archived: frozenset[UUID]
    """Projects whose keys open nothing."""
    owner_names: Mapping[UUID, str]
    """Of service accounts and members. Who is gone has none."""
    choices: KeyChoices


class MadeKey(Struct, frozen=True):
    """`offers` says where it can be used at once; empty for a management key."""

    key: KeyRecord
    secret: str
    offers: list[Offer]


async def read_keys(session: AsyncSession, scope: TenantScope, before: UUID | None) -> KeysPage:
    rows = await list_keys(session, scope, limit=KEYS_PER_PAGE + 1, before=before)
    shown, next_cursor = cut_page(rows, KEYS_PER_PAGE, lambda key: key.id)
    projects = list(reversed(await list_projects(session, scope, limit=MAX_PROJECTS, before=None)))
    accounts = await list_service_accounts(session, scope, limit=MAX_SERVICE_ACCOUNTS, before=None)
    choices = KeyChoices(
        projects=[project for project in projects if project.archived_at is None],
        regions=await read_allowed_regions(session, scope),
        models=await read_models_on_sale(session),
        service_accounts=accounts,
    )
    return KeysPage(
        keys=shown,
        next_cursor=next_cursor,
        project_names={project.id: project.name for project in projects},
        archived=frozenset(project.id for project in projects if project.archived_at is not None),
        owner_names={account.id: account.name for account in accounts},
        choices=choices,
    )


async def read_models_on_sale(session: AsyncSession) -> list[str]:
    sold = await sold_in(session)
    return [listing.name for listing in await list_listings(session) if sold.get(listing.id)]


async def make_key(
    session: AsyncSession,
    scope: TenantScope,
    project_id: ProjectId | None,
    order: KeyOrder,
    call: Call | None,
    *,
    peppers: tuple[Pepper, ...],
) -> MadeKey:
    """A new key: in the project that is named, or its service account's, or the tenant's oldest. Raises as the API's
    does, and `Conflict` when `call` was made before: what was shown then is nowhere."""
    await idempotency.begin(session, scope, call)
    await check_models(session, order.models)
    jurisdiction_of = await read_jurisdictions(session)
    if order.service_account_id is not None:
        project_id = ProjectId((await get_service_account(session, scope, order.service_account_id)).project_id)
    elif project_id is None:
        oldest = await oldest_project(session, scope)
        if oldest is None:
            raise NotFound("no project takes keys", param="project_id")
        project_id = ProjectId(oldest.id)
    key, secret = await create_key(session, scope, project_id, order, peppers=peppers, jurisdiction_of=jurisdiction_of)
    return await offer(session, scope, key, secret)


async def check_models(session: AsyncSession, models: Sequence[str] | None) -> None:
    """Raises `Invalid` for one that is not on sale."""
    if models and await unknown_listings(session, models):
        raise Invalid("models names something that is not on sale", code="model_not_found", param="models")


async def offer(session: AsyncSession, scope: TenantScope, key: KeyRecord, secret: str) -> MadeKey:
    """What a key that was just made can be used for at once."""
    allowed = await _allowed_regions(session, scope, key, await read_jurisdictions(session))
    offers = offers_for(
        allowed, key.models, await list_regions(session), await list_listings(session), await sold_in(session)
    )
    return MadeKey(key, secret, offers)


async def _allowed_regions(
    session: AsyncSession, scope: TenantScope, key: KeyRecord, jurisdiction_of: dict[str, str]
) -> tuple[str, ...]:
    """As a gateway will decide it, in the order of preference."""
    tenant = await get_organisation(session, scope)
    project = await get_project(session, scope, ProjectId(key.project_id))
    levels = (
        None if level is None else expand(level, jurisdiction_of) for level in (project.allowed_regions, key.regions)
    )
    return narrow(expand(tenant.allowed_regions, jurisdiction_of), *levels)
