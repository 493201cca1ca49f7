"""SQL for the operator's users."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import OperatorUserId
from chappe_tenants.operators.models import OperatorUser


async def find_by_email(session: AsyncSession, email: str) -> OperatorUser | None:
    found: OperatorUser | None = await session.scalar(select(OperatorUser).where(OperatorUser.email == email))
    return found


async def insert_operator(
    session: AsyncSession, *, user_id: OperatorUserId, email: str, role: str, password_hash: str
) -> None:
    """A user who exists already stays as they are."""
    await session.execute(
        insert(OperatorUser)
        .values(id=user_id, email=email, role=role, password_hash=password_hash)
        .on_conflict_do_nothing(index_elements=["email"])
    )


async def list_operators(session: AsyncSession) -> Sequence[OperatorUser]:
    """By address."""
    return (await session.scalars(select(OperatorUser).order_by(OperatorUser.email))).all()


async def set_role(session: AsyncSession, user_id: UUID, role: str) -> None:
    await session.execute(update(OperatorUser).where(OperatorUser.id == user_id).values(role=role))


async def set_password(session: AsyncSession, user_id: UUID, password_hash: str) -> None:
    await session.execute(update(OperatorUser).where(OperatorUser.id == user_id).values(password_hash=password_hash))
