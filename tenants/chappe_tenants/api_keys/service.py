"""What happens to API keys: they are made, found by their digest, changed, rotated and revoked."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import UNSET, Struct, UnsetType
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.api_keys import KeyKind, Pepper, digest_key, display_prefix, generate_key, is_well_formed
from chappe_kernel.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from chappe_kernel.ids import (
    KeyId,
    MemberId,
    ProjectId,
    ServiceAccountId,
    TenantId,
    new_id,
)
from chappe_kernel.networks import Address, is_within, site_of
from chappe_kernel.residency import expand, narrow
from chappe_kernel.wire.control import KeyDigest, KeyFacts
from chappe_store.queries import read_now
from chappe_store.session import TenantScope
from chappe_tenants.api_keys import queries
from chappe_tenants.api_keys.expiry import check_expiry, successors_expiry
from chappe_tenants.api_keys.narrowing import clean_networks
from chappe_tenants.api_keys.queries import FoundKey, Holder, KeyRecord, NewKey
from chappe_tenants.naming import clean_name
from chappe_tenants.organisations.lifecycle import effect_of
from chappe_tenants.organisations.service import get_organisation
from chappe_tenants.peppers import newest
from chappe_tenants.projects.models import Project
from chappe_tenants.projects.service import get_open_project, get_project, narrowing
from chappe_tenants.quotas.facts import KeyQuotas, read_key_quotas
from chappe_tenants.quotas.queries import copy_key_quotas
from chappe_tenants.service_accounts.service import check_may_have_key, get_service_account

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
    """What somebody asks of a new key. `models` are names of listings that the caller has checked. It belongs to
    `member_id`, who is signed in, or to a service account of its project, or to the project alone."""

    name: str
    kind: KeyKind
    regions: Sequence[str] | None = None
    models: Sequence[str] | None = None
    requests_per_minute: int | None = None
    networks: Sequence[str] | None = None
    expires_at: datetime | None = None
    member_id: MemberId | None = None
    service_account_id: ServiceAccountId | None = None


class KeyChange(Struct, frozen=True):
    """What to change of a key; whatever is not set stays. None takes a narrowing, a limit or an end away. `models` are
    names of listings that the caller has checked."""

    name: str | UnsetType = UNSET
    regions: Sequence[str] | UnsetType | None = UNSET
    models: Sequence[str] | UnsetType | None = UNSET
    requests_per_minute: int | UnsetType | None = UNSET
    networks: Sequence[str] | UnsetType | None = UNSET
    expires_at: datetime | UnsetType | None = UNSET


def digest_all(secret: str, peppers: Sequence[Pepper]) -> tuple[KeyDigest, ...]:
    """The secret's digest under every pepper in force."""
    return tuple(KeyDigest(pepper_version=pepper.version, digest=digest_key(secret, pepper)) for pepper in peppers)


async def authenticate(
    session: AsyncSession, secret: str, peppers: Sequence[Pepper], address: Address | None
) -> tuple[Caller, bool]:
    """Who holds this management key and calls from `address`, and whether it is time to `note_call`.

    Raises `Unauthenticated` for a secret that is no key of ours (a revoked one included), `Denied` for an inference
    key, for an address outside the key's networks, and for a tenant whose state closes its keys.
    """
    if not is_well_formed(secret):
        raise Unauthenticated("there is no such API key")
    found = await queries.find_key(session, digest_all(secret, peppers))
    if found is None:
        raise Unauthenticated("there is no such API key")
    if found.kind != KeyKind.MANAGEMENT:
        raise Denied("this takes a management key (ck_m…); an inference key opens the gateways only")
    if found.networks is not None and not is_within(address, found.networks):
        raise Denied("this key may not be used from your address", code="address_denied")
    if not effect_of(found.tenant_state).management_keys:
        raise Denied("this organisation is not active", code="tenant_not_active")
    caller = Caller(
        scope=TenantScope(TenantId(found.tenant_id)),
        key_id=KeyId(found.key_id),
        project_id=ProjectId(found.project_id),
    )
    return caller, found.rested


async def note_call(session: AsyncSession, caller: Caller, address: Address | None) -> None:
    """Note in the database's time that the management key was used, and from which network."""
    await queries.note_call(session, caller.scope, caller.key_id, None if address is None else site_of(address))


async def resolve(
    session: AsyncSession, digests: Sequence[KeyDigest], jurisdiction_of: dict[str, str]
) -> KeyFacts | None:
    """What a gateway may know of a key or browser token. None: there is no such one, it was revoked, or it is over."""
    found = await queries.find_key(session, digests)
    if found is None:
        return None
    quotas = await read_key_quotas(session, tenant_id=found.tenant_id, project_id=found.project_id, key_id=found.key_id)
    holder = await queries.read_holder(session, found.tenant_id)
    return _facts(found, quotas, holder, jurisdiction_of)


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

    Raises `NotFound` for another tenant's project or service account, `Invalid` for regions outside the tenant's and
    the project's, `Conflict` for a project that is archived and for one key too many.
    """
    project = await get_open_project(session, scope, project_id)
    if order.service_account_id is not None:
        account = await get_service_account(session, scope, order.service_account_id)
        check_may_have_key(account, project_id, order.kind)
    check_expiry(order.expires_at, await read_now(session))
    await _check_count(session, scope)
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


async def lock_key(session: AsyncSession, scope: TenantScope, key_id: KeyId) -> KeyRecord:
    """As `get_key`, and nobody else changes it until the transaction ends."""
    key = await queries.lock_key(session, scope, key_id)
    if key is None:
        raise NotFound("no such API key")
    return key


async def change_key(
    session: AsyncSession,
    scope: TenantScope,
    key: KeyRecord,
    change: KeyChange,
    *,
    jurisdiction_of: dict[str, str],
) -> KeyRecord:
    """`key` is locked. Raises `Conflict` for one that is over, `Invalid` as for a new one."""
    key_id, now = KeyId(key.id), await read_now(session)
    _check_usable(key, now)
    values = {name: getattr(change, name) for name in change.__struct_fields__ if getattr(change, name) is not UNSET}
    if "name" in values:
        values["name"] = clean_name(values["name"], param="name")
    if "regions" in values:
        project = await get_project(session, scope, ProjectId(key.project_id))
        within = await _regions_of(session, scope, project, jurisdiction_of)
        values["regions"] = narrowing(values["regions"], within, jurisdiction_of)
    if "models" in values:
        values["models"] = _once_each(values["models"])
    if "networks" in values:
        values["networks"] = clean_networks(values["networks"])
    if "expires_at" in values:
        check_expiry(values["expires_at"], now)
    await queries.update_key(session, scope, key_id, values)
    return await get_key(session, scope, key_id)


async def rotate_key(
    session: AsyncSession,
    scope: TenantScope,
    key_id: KeyId,
    *,
    overlap: timedelta,
    by: MemberId | None,
    peppers: tuple[Pepper, ...],
) -> tuple[KeyRecord, str]:
    """A key that may do the same, and its secret. The old one ends after the overlap; the new one lives as long as the
    old one was meant to.

    Raises `Conflict` for one that is over, has its successor already, or is the playground's, whose secret nobody has;
    `Denied` for a member's own key, unless `by` is that member: it would speak in another's name.
    """
    key, now = await lock_key(session, scope, key_id), await read_now(session)
    _check_usable(key, now)
    if key.purpose is not None:
        raise Conflict("the playground's key has no secret that anybody has", code="key_not_rotatable")
    if key.member_id is not None and key.member_id != by:
        raise Denied("only its owner can rotate a personal key", code="personal_key")
    await get_open_project(session, scope, ProjectId(key.project_id))
    if await queries.has_successor(session, scope, key_id):
        raise Conflict("this key has a successor already", code="key_rotated")
    await _check_count(session, scope)
    secret = generate_key(KeyKind(key.kind))
    successor = _successor(key, secret, now, peppers)
    await queries.insert_key(session, scope, successor)
    await copy_key_quotas(session, scope, key_id, successor.id)
    await queries.end_within(session, scope, key_id, overlap)
    return await get_key(session, scope, successor.id), secret


async def revoke_key(session: AsyncSession, scope: TenantScope, key_id: KeyId) -> None:
    """The key opens nothing from now on; gateways hear of it within a second. Safe to repeat."""
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
    within = await _regions_of(session, scope, project, jurisdiction_of)
    (digest,) = digest_all(secret, [newest(peppers)])
    return NewKey(
        id=KeyId(new_id()),
        project_id=ProjectId(project.id),
        kind=order.kind,
        name=clean_name(order.name, param="name"),
        prefix=display_prefix(secret),
        digest=digest,
        regions=narrowing(order.regions, within, jurisdiction_of),
        models=_once_each(order.models),
        requests_per_minute=order.requests_per_minute,
        networks=clean_networks(order.networks),
        expires_at=order.expires_at,
        member_id=order.member_id,
        service_account_id=order.service_account_id,
    )


def _successor(key: KeyRecord, secret: str, now: datetime, peppers: tuple[Pepper, ...]) -> NewKey:
    (digest,) = digest_all(secret, [newest(peppers)])
    return NewKey(
        id=KeyId(new_id()),
        project_id=ProjectId(key.project_id),
        kind=KeyKind(key.kind),
        name=key.name,
        prefix=display_prefix(secret),
        digest=digest,
        regions=key.regions,
        models=key.models,
        # Its quotas are copied whole.
        requests_per_minute=None,
        networks=key.networks,
        expires_at=successors_expiry(key.created_at, key.expires_at, now),
        member_id=None if key.member_id is None else MemberId(key.member_id),
        service_account_id=None if key.service_account_id is None else ServiceAccountId(key.service_account_id),
        predecessor_id=KeyId(key.id),
    )


async def _check_count(session: AsyncSession, scope: TenantScope) -> None:
    if await queries.count_active_keys(session, scope) >= MAX_ACTIVE_KEYS:
        raise Conflict(f"an organisation has at most {MAX_ACTIVE_KEYS} active keys", code="too_many_keys")


def _check_usable(key: KeyRecord, now: datetime) -> None:
    if key.revoked_at is not None:
        raise Conflict("this key is revoked", code="key_revoked")
    if key.expires_at is not None and key.expires_at <= now:
        raise Conflict("this key has expired", code="key_expired")


async def _regions_of(
    session: AsyncSession, scope: TenantScope, project: Project, jurisdiction_of: dict[str, str]
) -> tuple[str, ...]:
    """What a key of the project can be narrowed to."""
    tenant = await get_organisation(session, scope)
    return _narrowed(jurisdiction_of, tenant.allowed_regions, project.allowed_regions)


def _once_each(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(dict.fromkeys(names))


def _facts(found: FoundKey, quotas: KeyQuotas, holder: Holder, jurisdiction_of: dict[str, str]) -> KeyFacts:
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
        answers_kept_for_s=float(holder.answers_kept_for_s),
        verified=holder.verified,
        share=holder.share,
        quotas_hold_for_s=quotas.hold_for_s,
        networks=None if found.networks is None else tuple(found.networks),
    )


def _narrowed(
    jurisdiction_of: dict[str, str], tenant_regions: Sequence[str], *levels: Sequence[str] | None
) -> tuple[str, ...]:
    expanded = (None if level is None else expand(level, jurisdiction_of) for level in levels)
    return narrow(expand(tenant_regions, jurisdiction_of), *expanded)
