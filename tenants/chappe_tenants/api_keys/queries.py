"""SQL for API keys. The digest is written here and read only by the database's own look-up function."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, BYTEA, insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.api_keys import KeyKind
from chappe_kernel.ids import KeyId, ProjectId
from chappe_kernel.wire.control import KeyDigest
from chappe_store.session import TenantScope
from chappe_tenants.api_keys.models import ApiKey
from chappe_tenants.quotas.models import Quota


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
    """What the look-up says of a key that is not revoked, with its project's and tenant's part. A browser token that
    lives is found as the key it stands for."""

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
    valid_for_s: float | None
    """None for a key; for a browser token, how much longer it lives."""


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
_RESOLVE = text("SELECT * FROM resolve_secret(:versions, :digests)").bindparams(
    bindparam("versions", type_=ARRAY(BIGINT)), bindparam("digests", type_=ARRAY(BYTEA))
)


async def find_key(session: AsyncSession, digests: Sequence[KeyDigest]) -> FoundKey | None:
    """One read of the unique index per digest, by a function that alone may look before the tenant is known."""
    parameters = {
        "versions": [digest.pepper_version for digest in digests],
        "digests": [digest.digest for digest in digests],
    }
    row = (await session.execute(_RESOLVE, parameters)).mappings().first()
    return None if row is None else FoundKey(**row)


async def read_key(session: AsyncSession, scope: TenantScope, key_id: KeyId) -> KeyRecord | None:
    query = select(*_SHOWN).where(ApiKey.tenant_id == scope.tenant_id, ApiKey.id == key_id)
    row = (await session.execute(query)).mappings().first()
    return None if row is None else KeyRecord(**row)


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
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None
) -> Sequence[KeyRecord]:
    """Newest first, revoked ones included."""
    query = select(*_SHOWN).where(ApiKey.tenant_id == scope.tenant_id).order_by(ApiKey.id.desc()).limit(limit)
    if before is not None:
        query = query.where(ApiKey.id < before)
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
    query = select(func.count()).where(ApiKey.tenant_id == scope.tenant_id, ApiKey.revoked_at.is_(None))
    return await session.scalar(query) or 0


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
        )
        # No conflict target: naming one would need the right to read the digest.
        .on_conflict_do_nothing()
        .returning(ApiKey.id)
    )
    return inserted is not None


async def revoke_key(session: AsyncSession, scope: TenantScope, key_id: KeyId) -> None:
    """In the database's time; a key that was revoked before keeps its time."""
    await session.execute(
        update(ApiKey)
        .where(ApiKey.tenant_id == scope.tenant_id, ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


async def touch_keys(session: AsyncSession, used_at: Mapping[tuple[UUID, UUID], datetime]) -> None:
    """Note when (tenant, key) were last used: never back in time, never ahead of the database's clock.

    In one order, so that two batches cannot deadlock; at most once a minute per key, so that a busy key's row is not
    rewritten all the time. For the ingestion's role.
    """
    for tenant_id, key_id in sorted(used_at):
        seen = func.least(used_at[tenant_id, key_id], func.now())
        await session.execute(
            update(ApiKey)
            .where(
                ApiKey.tenant_id == tenant_id,
                ApiKey.id == key_id,
                func.coalesce(ApiKey.last_used_at, text("'-infinity'")) < seen - text("interval '1 minute'"),
            )
            .values(last_used_at=seen)
        )
