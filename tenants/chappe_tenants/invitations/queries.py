"""SQL for invitations. The digest is written here and read only by the database's own look-up function."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct
from sqlalchemy import bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import BYTEA, insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import InvitationId
from chappe_store.session import TenantScope
from chappe_tenants.invitations.models import Invitation


class InvitationRecord(Struct, frozen=True):
    """An invitation as its organisation may see it: everything but the digest. `expired` by the database's clock."""

    id: UUID
    email: str
    role: str
    created_at: datetime
    sent_at: datetime
    expires_at: datetime
    expired: bool


class FoundInvitation(Struct, frozen=True):
    """What the look-up says of an invitation that has not expired. `account_id` and `password_hash` are of whoever has
    its address, if somebody has."""

    tenant_id: UUID
    invitation_id: UUID
    email: str
    role: str
    sent_at: datetime
    tenant_name: str
    tenant_state: str
    account_id: UUID | None
    password_hash: str | None


_SHOWN = (
    Invitation.id,
    Invitation.email,
    Invitation.role,
    Invitation.created_at,
    Invitation.sent_at,
    Invitation.expires_at,
    (Invitation.expires_at <= func.now()).label("expired"),
)
_FIND = text("SELECT * FROM find_invitation(:asked)").bindparams(bindparam("asked", type_=BYTEA))


async def find_invitation(session: AsyncSession, digest: bytes) -> FoundInvitation | None:
    """By a function that alone may look before the tenant is known."""
    row = (await session.execute(_FIND, {"asked": digest})).mappings().first()
    return None if row is None else FoundInvitation(**row)


async def read_invitation(
    session: AsyncSession, scope: TenantScope, invitation_id: InvitationId
) -> InvitationRecord | None:
    query = select(*_SHOWN).where(Invitation.tenant_id == scope.tenant_id, Invitation.id == invitation_id)
    row = (await session.execute(query)).mappings().first()
    return None if row is None else InvitationRecord(**row)


async def find_by_address(session: AsyncSession, scope: TenantScope, email: str) -> InvitationRecord | None:
    query = select(*_SHOWN).where(Invitation.tenant_id == scope.tenant_id, Invitation.email == email)
    row = (await session.execute(query)).mappings().first()
    return None if row is None else InvitationRecord(**row)


async def list_invitations(
    session: AsyncSession, scope: TenantScope, *, limit: int, before: UUID | None
) -> Sequence[InvitationRecord]:
    """Newest first, expired ones included."""
    query = select(*_SHOWN).where(Invitation.tenant_id == scope.tenant_id).order_by(Invitation.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Invitation.id < before)
    return [InvitationRecord(**row) for row in (await session.execute(query)).mappings()]


async def count_invitations(session: AsyncSession, scope: TenantScope) -> int:
    return await session.scalar(select(func.count()).where(Invitation.tenant_id == scope.tenant_id)) or 0


async def insert_invitation(
    session: AsyncSession,
    scope: TenantScope,
    *,
    invitation_id: InvitationId,
    email: str,
    role: str,
    digest: bytes,
    valid_for: timedelta,
) -> bool:
    """False, and nothing inserted, if the organisation has invited this address already."""
    inserted = await session.scalar(
        insert(Invitation)
        .values(
            tenant_id=scope.tenant_id,
            id=invitation_id,
            email=email,
            role=role,
            digest=digest,
            expires_at=func.now() + valid_for,
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "email"])
        .returning(Invitation.id)
    )
    return inserted is not None


async def renew_invitation(
    session: AsyncSession,
    scope: TenantScope,
    invitation_id: InvitationId,
    *,
    digest: bytes,
    valid_for: timedelta,
    rest: timedelta,
) -> bool:
    """Under another secret, and from now on. False, and nothing changed, if it was sent within `rest`."""
    renewed = await session.scalar(
        update(Invitation)
        .where(
            Invitation.tenant_id == scope.tenant_id,
            Invitation.id == invitation_id,
            Invitation.sent_at <= func.now() - rest,
        )
        .values(digest=digest, sent_at=func.now(), expires_at=func.now() + valid_for)
        .returning(Invitation.id)
    )
    return renewed is not None


async def take_invitation(session: AsyncSession, scope: TenantScope, found: FoundInvitation) -> bool:
    """It is there no more. False: somebody was faster, or it was sent again under another secret meanwhile."""
    taken = await session.scalar(
        delete(Invitation)
        .where(
            Invitation.tenant_id == scope.tenant_id,
            Invitation.id == found.invitation_id,
            Invitation.sent_at == found.sent_at,
            Invitation.expires_at > func.now(),
        )
        .returning(Invitation.id)
    )
    return taken is not None


async def delete_invitation(session: AsyncSession, scope: TenantScope, invitation_id: InvitationId) -> None:
    await session.execute(
        delete(Invitation).where(Invitation.tenant_id == scope.tenant_id, Invitation.id == invitation_id)
    )
