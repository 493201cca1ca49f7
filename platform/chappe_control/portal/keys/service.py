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
from chappe_control.portal.keys.snippets import Offer, offers_for
from chappe_kernel.api_keys import Pepper
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import ProjectId
from chappe_kernel.residency import expand, narrow
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.queries import KeyRecord, list_keys
from chappe_tenants.api_keys.service import KeyOrder, create_key
from chappe_tenants.organisations.service import get_organisation
from chappe_tenants.projects.models import Project
from chappe_tenants.projects.queries import list_projects
from chappe_tenants.projects.service import MAX_PROJECTS, get_project

KEYS_PER_PAGE = 25


class KeyChoices(Struct, frozen=True):
    """What a new key can be narrowed to. `projects` by name, the oldest first."""

    projects: list[Project]
    regions: dict[str, str]
    """Jurisdictions by region, in the tenant's order of preference."""
    models: list[str]


class KeysPage(Struct, frozen=True):
    keys: Sequence[KeyRecord]
    next_cursor: str | None
    project_names: Mapping[UUID, str]
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
    tenant = await get_organisation(session, scope)
    jurisdiction_of = await read_jurisdictions(session)
    sold = await sold_in(session)
    choices = KeyChoices(
        projects=projects,
        regions={name: jurisdiction_of[name] for name in expand(tenant.allowed_regions, jurisdiction_of)},
        models=[listing.name for listing in await list_listings(session) if sold.get(listing.id)],
    )
    return KeysPage(shown, next_cursor, {project.id: project.name for project in projects}, choices)


async def make_key(
    session: AsyncSession,
    scope: TenantScope,
    project_id: ProjectId | None,
    order: KeyOrder,
    call: Call | None,
    *,
    peppers: tuple[Pepper, ...],
) -> MadeKey:
    """A new key, in the tenant's oldest project unless one is named. Raises as the API's does, and `Conflict` when
    `call` was made before: what was shown then is nowhere."""
    await idempotency.begin(session, scope, call)
    if order.models and await unknown_listings(session, order.models):
        raise Invalid("models names something that is not on sale", code="model_not_found", param="models")
    jurisdiction_of = await read_jurisdictions(session)
    if project_id is None:
        *_, oldest = await list_projects(session, scope, limit=MAX_PROJECTS, before=None)
        project_id = ProjectId(oldest.id)
    key, secret = await create_key(session, scope, project_id, order, peppers=peppers, jurisdiction_of=jurisdiction_of)
    allowed = await _allowed_regions(session, scope, key, jurisdiction_of)
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
