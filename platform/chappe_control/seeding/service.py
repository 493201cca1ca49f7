"""What happens when the operator makes a tenant."""

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.credit.service import give_welcome_credit
from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.onboarding.service import Terms, open_organisation
from chappe_control.seeding.schemas import Seed
from chappe_kernel.api_keys import KeyKind, Pepper
from chappe_kernel.ids import ProjectId, TenantId
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.service import KeyOrder, create_key, import_key
from chappe_tenants.members.service import Role, put_member
from chappe_tenants.operators.service import OperatorRole, put_operator
from chappe_tenants.organisations.queries import find_by_reference
from chappe_tenants.organisations.service import Contract, Seller, create_organisation
from chappe_tenants.projects.queries import find_by_name
from chappe_tenants.projects.service import create_project


async def plant_seed(
    session: AsyncSession, seed: Seed, *, peppers: tuple[Pepper, ...], welcome_credit_nano: int
) -> TenantId:
    """The seed's tenant with all that it lists; safe to repeat: what exists stays as it is. For the operator's role."""
    scope = await _organisation(session, seed)
    jurisdiction_of = await read_jurisdictions(session)
    project_id = await _project(session, scope, seed.project, jurisdiction_of)
    for key in seed.keys:
        order = KeyOrder(
            name=key.name,
            kind=key.kind,
            regions=key.regions,
            models=key.models,
            requests_per_minute=key.requests_per_minute,
        )
        await import_key(
            session, scope, project_id, order, key.secret, peppers=peppers, jurisdiction_of=jurisdiction_of
        )
    if seed.member is not None:
        await put_member(session, scope, email=seed.member.email, password=seed.member.password, role=Role.OWNER)
    if seed.operator is not None:
        await put_operator(
            session, email=seed.operator.email, password=seed.operator.password, role=OperatorRole.ADMINISTRATOR
        )
    await give_welcome_credit(session, scope.tenant_id, welcome_credit_nano, seed.tenant.currency)
    return scope.tenant_id


async def create_tenant(
    session: AsyncSession,
    *,
    name: str,
    allowed_regions: tuple[str, ...],
    requests_per_minute: int,
    currency: str,
    peppers: tuple[Pepper, ...],
    welcome_credit_nano: int,
) -> tuple[TenantId, dict[KeyKind, str]]:
    """A new tenant and the secrets of its first two keys. Without regions it may use all that there are."""
    terms = Terms(Seller(currency=currency), requests_per_minute, welcome_credit_nano, allowed_regions)
    opened = await open_organisation(session, name=name, terms=terms, contract=Contract(verified=True))
    secrets = {}
    for kind in KeyKind:
        order = KeyOrder(name=kind.value, kind=kind)
        _, secrets[kind] = await create_key(
            session, opened.scope, opened.project_id, order, peppers=peppers, jurisdiction_of=opened.jurisdiction_of
        )
    return opened.scope.tenant_id, secrets


async def _organisation(session: AsyncSession, seed: Seed) -> TenantScope:
    reference = f"seed:{seed.tenant.name}"
    known = await find_by_reference(session, reference)
    if known is not None:
        return TenantScope(known)
    return await create_organisation(
        session,
        name=seed.tenant.name,
        seller=Seller(currency=seed.tenant.currency),
        allowed_regions=seed.tenant.allowed_regions,
        requests_per_minute=seed.tenant.requests_per_minute,
        reference=reference,
        contract=Contract(verified=True),
    )


async def _project(session: AsyncSession, scope: TenantScope, name: str, jurisdiction_of: dict[str, str]) -> ProjectId:
    known = await find_by_name(session, scope, name)
    if known is not None:
        return known
    project = await create_project(session, scope, name=name, regions=None, jurisdiction_of=jurisdiction_of)
    return ProjectId(project.id)
