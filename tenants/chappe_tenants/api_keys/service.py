"""What happens to API keys: they are made, found by their digest, and revoked."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.api_keys import KeyKind, Pepper, digest_key, display_prefix, generate_key, is_well_formed
from chappe_kernel.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from chappe_kernel.ids import KeyId, ProjectId, TenantId, new_id
from chappe_kernel.residency import expand, narrow
from chappe_kernel.wire.control import KeyDigest, KeyFacts
from chappe_store.session import TenantScope
from chappe_tenants.api_keys import queries
from chappe_tenants.api_keys.queries import FoundKey, KeyRecord, NewKey
from chappe_tenants.naming import clean_name
from chappe_tenants.organisations.lifecycle import effect_of
from chappe_tenants.organisations.service import get_organisation
from chappe_tenants.peppers import newest
from chappe_tenants.projects.models import Project
from chappe_tenants.projects.service import get_project, narrowing
from chappe_tenants.quotas.facts import KeyQuotas, read_key_quotas

MAX_ACTIVE_KEYS = 1000
MAX_MODELS = 100
MAX_REQUESTS_PER_MINUTE = 1_000_000
PLAYGROUND_NAME = "Playground"


class Caller(Struct, frozen=True):
    """Who called with a management key. Only `authenticate` makes one, and its scope opens this tenant alone."""

    scope: TenantScope
    key_id: KeyId
    project_id: ProjectId


class KeyOrder(Struct, frozen=True):
    """What somebody asks of a new key. `models` are names of listings that the caller has checked."""

    name: str
    kind: KeyKind
    regions: Sequence[str] | None = None
    models: Sequence[str] | None = None
    requests_per_minute: int | None = None


def digest_all(secret: str, peppers: Sequence[Pepper]) -> tuple[KeyDigest, ...]:
    """The secret's digest under every pepper in force."""
    return tuple(KeyDigest(pepper_version=pepper.version, digest=digest_key(secret, pepper)) for pepper in peppers)


async def authenticate(session: AsyncSession, secret: str, peppers: Sequence[Pepper]) -> Caller:
    """Who holds this management key.

    Raises `Unauthenticated` for a secret that is no key of ours (a revoked one included), `Denied` for an inference
    key and for a tenant whose state closes its keys.
    """
    if not is_well_formed(secret):
        raise Unauthenticated("there is no such API key")
    found = await queries.find_key(session, digest_all(secret, peppers))
    if found is None:
        raise Unauthenticated("there is no such API key")
    if found.kind != KeyKind.MANAGEMENT:
        raise Denied("this takes a management key (ck_m…); an inference key opens the gateways only")
    if not effect_of(found.tenant_state).management_keys:
        raise Denied("this organisation is not active", code="tenant_not_active")
    return Caller(
        scope=TenantScope(TenantId(found.tenant_id)),
        key_id=KeyId(found.key_id),
        project_id=ProjectId(found.project_id),
    )


async def resolve(
    session: AsyncSession, digests: Sequence[KeyDigest], jurisdiction_of: dict[str, str]
) -> KeyFacts | None:
    """What a gateway may know of a key or browser token. None: there is no such one, it was revoked, or it is over."""
    found = await queries.find_key(session, digests)
    if found is None:
        return None
    quotas = await read_key_quotas(session, tenant_id=found.tenant_id, project_id=found.project_id, key_id=found.key_id)
    return _facts(found, quotas, jurisdiction_of)


async def create_key(
    session: AsyncSession,
    scope: TenantScope,
    project_id: ProjectId,
    order: KeyOrder,
    *,
    peppers: tuple[Pepper, ...],
    jurisdiction_of: dict[str, str],
) -> tuple[KeyRecord, str]:
    """A new key and its secret, which nobody can read again.

    Raises `NotFound` for another tenant's project, `Invalid` for regions outside the tenant's and the project's.
    """
    project = await get_project(session, scope, project_id)
    if await queries.count_active_keys(session, scope) >= MAX_ACTIVE_KEYS:
        raise Conflict(f"an organisation has at most {MAX_ACTIVE_KEYS} active keys", code="too_many_keys")
    secret = generate_key(order.kind)
    key = await _new_key(session, scope, project, order, secret, peppers=peppers, jurisdiction_of=jurisdiction_of)
    await queries.insert_key(session, scope, key)
    return await get_key(session, scope, key.id), secret


async def import_key(
    session: AsyncSession,
    scope: TenantScope,
    project_id: ProjectId,
    order: KeyOrder,
    secret: str,
    *,
    peppers: tuple[Pepper, ...],
    jurisdiction_of: dict[str, str],
) -> None:
    """Store a key whose secret the operator chose. Safe to repeat; a revoked one stays revoked.

    Raises `Invalid` for a malformed secret or one of the other kind, `Conflict` if another tenant has it.
    """
    if not is_well_formed(secret) or secret[3] != order.kind.value[0]:
        raise Invalid(f"the secret of the key {order.name!r} is not a well-formed {order.kind.value} key")
    found = await queries.find_key(session, digest_all(secret, peppers))
    if found is not None and found.tenant_id != scope.tenant_id:
        raise Conflict(f"the secret of the key {order.name!r} belongs to another tenant")
    if found is None:
        project = await get_project(session, scope, project_id)
        key = await _new_key(session, scope, project, order, secret, peppers=peppers, jurisdiction_of=jurisdiction_of)
        await queries.insert_key(session, scope, key)


async def ensure_playground_key(
    session: AsyncSession,
    scope: TenantScope,
    project_id: ProjectId,
    *,
    peppers: tuple[Pepper, ...],
    jurisdiction_of: dict[str, str],
) -> KeyId:
    """The key that the project's browser tokens stand for; made at first use, and again after it was revoked.

    Its own secret is thrown away unseen. It is one per project, so it is not counted against `MAX_ACTIVE_KEYS`.
    """
    found = await queries.find_playground_key(session, scope, project_id)
    if found is not None:
        return found
    project = await get_project(session, scope, project_id)
    order = KeyOrder(PLAYGROUND_NAME, KeyKind.INFERENCE)
    secret = generate_key(KeyKind.INFERENCE)
    key = await _new_key(session, scope, project, order, secret, peppers=peppers, jurisdiction_of=jurisdiction_of)
    if await queries.insert_key(session, scope, msgspec.structs.replace(key, purpose=queries.PLAYGROUND)):
        return key.id
    made = await queries.find_playground_key(session, scope, project_id)
    if made is None:  # Somebody made it meanwhile, and somebody revoked it again.
        raise Conflict("the playground's key is changing; try again", code="playground_key_changing")
    return made


async def get_key(session: AsyncSession, scope: TenantScope, key_id: KeyId) -> KeyRecord:
    """Raises `NotFound`, also for another tenant's."""
    key = await queries.read_key(session, scope, key_id)
    if key is None:
        raise NotFound("no such API key")
    return key


async def revoke_key(session: AsyncSession, scope: TenantScope, key_id: KeyId) -> None:
    """The key opens nothing from now on; gateways hear of it with their next snapshot. Safe to repeat."""
    await get_key(session, scope, key_id)
    await queries.revoke_key(session, scope, key_id)


async def _new_key(
    session: AsyncSession,
    scope: TenantScope,
    project: Project,
    order: KeyOrder,
    secret: str,
    *,
    peppers: tuple[Pepper, ...],
    jurisdiction_of: dict[str, str],
) -> NewKey:
    tenant = await get_organisation(session, scope)
    within = _narrowed(jurisdiction_of, tenant.allowed_regions, project.allowed_regions)
    (digest,) = digest_all(secret, [newest(peppers)])
    return NewKey(
        id=KeyId(new_id()),
        project_id=ProjectId(project.id),
        kind=order.kind,
        name=clean_name(order.name, param="name"),
        prefix=display_prefix(secret),
        digest=digest,
        regions=narrowing(order.regions, within, jurisdiction_of),
        models=None if order.models is None else list(dict.fromkeys(order.models)),
        requests_per_minute=order.requests_per_minute,
    )


def _facts(found: FoundKey, quotas: KeyQuotas, jurisdiction_of: dict[str, str]) -> KeyFacts:
    return KeyFacts(
        key_id=found.key_id,
        project_id=found.project_id,
        tenant_id=found.tenant_id,
        kind=KeyKind(found.kind),
        active=effect_of(found.tenant_state).inference,
        currency=found.currency,
        regions=_narrowed(jurisdiction_of, found.tenant_regions, found.project_regions, found.key_regions),
        models=None if found.models is None else tuple(found.models),
        limits=quotas.limits,
        valid_for_s=found.valid_for_s,
        budgets=quotas.budgets,
        quotas_hold_for_s=quotas.hold_for_s,
    )


def _narrowed(
    jurisdiction_of: dict[str, str], tenant_regions: Sequence[str], *levels: Sequence[str] | None
) -> tuple[str, ...]:
    expanded = (None if level is None else expand(level, jurisdiction_of) for level in levels)
    return narrow(expand(tenant_regions, jurisdiction_of), *expanded)
