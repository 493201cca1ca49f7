"""SQL for API keys. The digest is written here and read only by the database's own look-up function."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, BYTEA, insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.api_keys import KeyKind
from chappe_kernel.ids import KeyId, MemberId, ProjectId, ServiceAccountId
from chappe_kernel.wire.control import KeyDigest
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.models import ApiKey
from chappe_tenants.organisations.models import Tenant
from chappe_tenants.quotas.models import Plan, Quota


class KeyRecord(Struct, frozen=True):
    """A key as its tenant may see it: everything but the digest."""

    id: UUID
    project_id: UUID
    kind: str
    name: str
    prefix: str
    regions: list[str] | None
    models: list[str] | None
    requests_per_minute: int | None
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    purpose: str | None
    networks: list[str] | None
    expires_at: datetime | None
    member_id: UUID | None
    service_account_id: UUID | None
    predecessor_id: UUID | None
    revoked_for: str | None
    last_used_region: str | None
    last_used_network: str | None


class KeyName(Struct, frozen=True):
    """A key as somebody chooses it from a list."""

    id: UUID
    name: str
    revoked: bool


class Beginnings(Struct, frozen=True):
    """How far a tenant has come: a key that somebody made, and a call from the playground that was settled."""

    has_key: bool
    has_played: bool


class FoundKey(Struct, frozen=True):
    """What the look-up says of a key that opens something, with its project's and tenant's part. A browser token that
    lives is found as the key it stands for. `rested`: it is time to note that the key was used."""

    key_id: UUID
    project_id: UUID
    tenant_id: UUID
    kind: str
    key_regions: list[str] | None
    models: list[str] | None
    key_requests_per_minute: int | None
    project_regions: list[str] | None
    tenant_regions: list[str]
    tenant_requests_per_minute: int
    tenant_state: str
    currency: str
    networks: list[str] | None
    valid_for_s: float | None
    """How much longer it opens anything; None if it has no end."""
    browser_token_id: UUID | None
    rested: bool


class FoundLeak(Struct, frozen=True):
    """Of a key, or of a browser token that stands for it."""

    tenant_id: UUID
    key_id: UUID
    browser_token_id: UUID | None


class NewKey(Struct, frozen=True):
    """A row to insert."""

    id: KeyId
    project_id: ProjectId
    kind: KeyKind
    name: str
    prefix: str
    digest: KeyDigest
    regions: list[str] | None
    models: list[str] | None
    requests_per_minute: int | None
    purpose: str | None = None
    networks: list[str] | None = None
    expires_at: datetime | None = None
    member_id: MemberId | None = None
    service_account_id: ServiceAccountId | None = None
    predecessor_id: KeyId | None = None


class KeyUse(Struct, frozen=True):
    """When a key was used last, and whence. `region` is None at the control plane, `network` where it is not known."""

    at: datetime
    region: str | None
    network: str | None


PLAYGROUND = "playground"
"""The `purpose` of a project's key for browser tokens."""

OWN_LIMIT = (
    select(Quota.requests_per_minute)
    .where(
        Quota.tenant_id == ApiKey.tenant_id,
        Quota.level == "key",
        Quota.project_id.is_(None),
        Quota.key_id == ApiKey.id,
        Quota.model.is_(None),
    )
    .scalar_subquery()
    .label("requests_per_minute")
)
"""What the key's own quota says of all models together, beside each key that is read."""

_SHOWN = tuple(
    OWN_LIMIT if name == "requests_per_minute" else getattr(ApiKey, name) for name in KeyRecord.__struct_fields__
)


class Holder(Struct, frozen=True):
    """What a gateway is told of a key's tenant. `share` is its contract's, or its plan's."""

    answers_kept_for_s: int
    content_kept_for_s: int
    verified: bool
    share: int


_NOBODY = Holder(answers_kept_for_s=0, content_kept_for_s=0, verified=False, share=1)

LEAKED = "leaked"
"""Why a key was `revoked_for`: somebody found its text where it should not be."""

_REST = text("interval '1 minute'")
_IS_ACTIVE = (ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()))
_DIGESTS = (bindparam("versions", type_=ARRAY(BIGINT)), bindparam("digests", type_=ARRAY(BYTEA)))
_FIND = text("SELECT * FROM find_secret(:versions, :digests)").bindparams(*_DIGESTS)
# Built once: a gateway waits for it.
_STANDING = (
    select(
        Tenant.answers_kept_for_s,
        Tenant.content_kept_for_s,
        Tenant.verified,
        func.coalesce(Tenant.share, Plan.share).label("share"),
    )
    .join(Plan, Plan.name == Tenant.plan)
    .where(Tenant.id == bindparam("tenant_id"))
)
_FIND_LEAKED = text("SELECT * FROM find_leaked_secret(:versions, :digests)").bindparams(*_DIGESTS)


async def find_key(session: AsyncSession, digests: Sequence[KeyDigest]) -> FoundKey | None:
    """One read of the unique index per digest, by a function that alone may look before the tenant is known."""
    row = (await session.execute(_FIND, _parameters(digests))).mappings().first()
    return None if row is None else FoundKey(**row)


async def read_holder(session: AsyncSession, tenant_id: UUID) -> Holder:
    """The tenant of a key that somebody has just shown to have. Whoever may not see it learns nothing in its favour."""
    row = (await session.execute(_STANDING, {"tenant_id": tenant_id})).mappings().first()
    return _NOBODY if row is None else Holder(**row)


async def find_leaked(session: AsyncSession, digests: Sequence[KeyDigest]) -> FoundLeak | None:
    """What was not revoked yet. For the role of tenants."""
    row = (await session.execute(_FIND_LEAKED, _parameters(digests))).mappings().first()
    return None if row is None else FoundLeak(**row)


async def read_key(session: AsyncSession, scope: TenantScope, key_id: KeyId) -> KeyRecord | None:
    query = select(*_SHOWN).where(ApiKey.tenant_id == scope.tenant_id, ApiKey.id == key_id)
    row = (await session.execute(query)).mappings().first()
    return None if row is None else KeyRecord(**row)


async def lock_key(session: AsyncSession, scope: TenantScope, key_id: KeyId) -> KeyRecord | None:
    """As `read_key`, and nobody else changes it until the transaction ends."""
    # A row may be locked by who may update it; the key's own columns are listed, since the digest cannot be read.
    query = (
        select(*_SHOWN)
        .where(ApiKey.tenant_id == scope.tenant_id, ApiKey.id == key_id)
        .with_for_update(key_share=True, of=ApiKey)
    )
    row = (await session.execute(query)).mappings().first()
    return None if row is None else KeyRecord(**row)


async def has_successor(session: AsyncSession, scope: TenantScope, key_id: KeyId) -> bool:
    query = select(ApiKey.id).where(ApiKey.tenant_id == scope.tenant_id, ApiKey.predecessor_id == key_id)
    return bool(await session.scalar(select(query.exists())))


async def find_playground_key(session: AsyncSession, scope: TenantScope, project_id: ProjectId) -> KeyId | None:
    """The one of this project that is not revoked."""
    query = select(ApiKey.id).where(
        ApiKey.tenant_id == scope.tenant_id,
        ApiKey.project_id == project_id,
        ApiKey.purpose == PLAYGROUND,
        ApiKey.revoked_at.is_(None),
    )
    found = await session.scalar(query)
    return None if found is None else KeyId(found)


async def list_keys(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None, project_id: ProjectId | None = None
) -> Sequence[KeyRecord]:
    """Newest first, of one project or of all, revoked ones included."""
    query = select(*_SHOWN).where(ApiKey.tenant_id == scope.tenant_id).order_by(ApiKey.id.desc()).limit(limit)
    if before is not None:
        query = query.where(ApiKey.id < before)
    if project_id is not None:
        query = query.where(ApiKey.project_id == project_id)
    return [KeyRecord(**row) for row in (await session.execute(query)).mappings()]


async def list_key_names(session: AsyncSession, scope: TenantScope, *, limit: int) -> Sequence[KeyName]:
    """Newest first, revoked ones included."""
    query = (
        select(ApiKey.id, ApiKey.name, ApiKey.revoked_at.is_not(None))
        .where(ApiKey.tenant_id == scope.tenant_id)
        .order_by(ApiKey.id.desc())
        .limit(limit)
    )
    return [KeyName(*row) for row in await session.execute(query)]


async def read_key_name(session: AsyncSession, scope: TenantScope, key_id: UUID) -> KeyName | None:
    query = select(ApiKey.id, ApiKey.name, ApiKey.revoked_at.is_not(None)).where(
        ApiKey.tenant_id == scope.tenant_id, ApiKey.id == key_id
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else KeyName(*row)


async def read_beginnings(session: AsyncSession, scope: TenantScope) -> Beginnings:
    own = select(ApiKey.id).where(ApiKey.tenant_id == scope.tenant_id)
    made = own.where(ApiKey.purpose.is_(None), ApiKey.kind == KeyKind.INFERENCE.value)
    played = own.where(ApiKey.purpose == PLAYGROUND, ApiKey.last_used_at.is_not(None))
    return Beginnings(*(await session.execute(select(made.exists(), played.exists()))).one())


async def count_active_keys(session: AsyncSession, scope: TenantScope) -> int:
    query = select(func.count()).where(ApiKey.tenant_id == scope.tenant_id, *_IS_ACTIVE)
    return await session.scalar(query) or 0


async def count_keys_by_project(session: AsyncSession, scope: TenantScope) -> dict[UUID, int]:
    """Active ones, by project; one without any is not in it."""
    query = (
        select(ApiKey.project_id, func.count())
        .where(ApiKey.tenant_id == scope.tenant_id, *_IS_ACTIVE)
        .group_by(ApiKey.project_id)
    )
    return {row[0]: row[1] for row in await session.execute(query)}


async def insert_key(session: AsyncSession, scope: TenantScope, key: NewKey) -> bool:
    """False, and nothing inserted, if the secret is known already, or the project has its playground key."""
    inserted = await session.scalar(
        insert(ApiKey)
        .values(
            tenant_id=scope.tenant_id,
            id=key.id,
            project_id=key.project_id,
            kind=key.kind.value,
            name=key.name,
            prefix=key.prefix,
            pepper_version=key.digest.pepper_version,
            digest=key.digest.digest,
            regions=key.regions,
            models=key.models,
            requests_per_minute=key.requests_per_minute,
            purpose=key.purpose,
            networks=key.networks,
            expires_at=key.expires_at,
            member_id=key.member_id,
            service_account_id=key.service_account_id,
            predecessor_id=key.predecessor_id,
        )
        # No conflict target: naming one would need the right to read the digest.
        .on_conflict_do_nothing()
        .returning(ApiKey.id)
    )
    return inserted is not None


async def update_key(session: AsyncSession, scope: TenantScope, key_id: KeyId, values: Mapping[str, Any]) -> None:
    """Columns by name: what the tenant's role may change of a key."""
    if values:
        await session.execute(
            update(ApiKey).where(ApiKey.tenant_id == scope.tenant_id, ApiKey.id == key_id).values(**values)
        )


async def end_within(session: AsyncSession, scope: TenantScope, key_id: KeyId, overlap: timedelta) -> None:
    """It expires after the overlap, by the database's clock, unless it does so sooner by itself."""
    await session.execute(
        update(ApiKey)
        .where(ApiKey.tenant_id == scope.tenant_id, ApiKey.id == key_id)
        .values(expires_at=func.least(ApiKey.expires_at, func.now() + overlap))
    )


async def revoke_key(
    session: AsyncSession, scope: TenantScope, key_id: KeyId, *, revoked_for: str | None = None
) -> None:
    """In the database's time; a key that was revoked before keeps its time."""
    await session.execute(
        update(ApiKey)
        .where(ApiKey.tenant_id == scope.tenant_id, ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now(), revoked_for=revoked_for)
    )


async def revoke_keys_of_service_account(
    session: AsyncSession, scope: TenantScope, service_account_id: ServiceAccountId
) -> None:
    await session.execute(
        update(ApiKey)
        .where(
            ApiKey.tenant_id == scope.tenant_id,
            ApiKey.service_account_id == service_account_id,
            ApiKey.revoked_at.is_(None),
        )
        .values(revoked_at=func.now())
    )


async def note_call(session: AsyncSession, scope: TenantScope, key_id: KeyId, network: str | None) -> None:
    """That a management key was used now. Two calls at once write once: the second finds it noted already."""
    await session.execute(
        update(ApiKey)
        .where(ApiKey.tenant_id == scope.tenant_id, ApiKey.id == key_id, _last_use() < func.now() - _REST)
        .values(last_used_at=func.now(), last_used_network=network)
    )


async def touch_keys(session: AsyncSession, uses: Mapping[tuple[UUID, UUID], KeyUse]) -> None:
    """Note when and whence (tenant, key) were last used: never back in time, never ahead of the database's clock.

    In one order, so that two batches cannot deadlock; at most once a minute per key, so that a busy key's row is not
    rewritten all the time. For the ingestion's role.
    """
    if uses:
        values = {
            "tenants": [tenant_id for tenant_id, _ in uses],
            "keys": [key_id for _, key_id in uses],
            "moments": [use.at for use in uses.values()],
            "regions": [use.region for use in uses.values()],
            "networks": [use.network for use in uses.values()],
        }
        await session.execute(_TOUCH_KEYS, values)


_TOUCH_KEYS = text(
    """
    WITH due AS (
        SELECT k.tenant_id, k.id, least(u.at, now()) AS at, u.region, u.network
        FROM api_key k
        JOIN unnest(
            CAST(:tenants AS uuid[]), CAST(:keys AS uuid[]), CAST(:moments AS timestamptz[]),
            CAST(:regions AS text[]), CAST(:networks AS text[])
        ) u (tenant_id, id, at, region, network) USING (tenant_id, id)
        WHERE coalesce(k.last_used_at, '-infinity') < least(u.at, now()) - interval '1 minute'
        ORDER BY k.tenant_id, k.id FOR NO KEY UPDATE OF k
    )
    UPDATE api_key k SET last_used_at = d.at, last_used_region = d.region, last_used_network = d.network
    FROM due d WHERE k.tenant_id = d.tenant_id AND k.id = d.id
    """
)


def _last_use() -> ColumnElement[datetime]:
    return func.coalesce(ApiKey.last_used_at, text("'-infinity'"))


def _parameters(digests: Sequence[KeyDigest]) -> dict[str, Any]:
    return {
        "versions": [digest.pepper_version for digest in digests],
        "digests": [digest.digest for digest in digests],
    }
