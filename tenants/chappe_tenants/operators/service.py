"""What happens to the operator's users."""

from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import OperatorUserId, new_id
from chappe_tenants.naming import clean_email
from chappe_tenants.operators import queries
from chappe_tenants.passwords import hash_password, verify_password


class OperatorRole(StrEnum):
    """What a user may do in the operator's console."""

    ADMINISTRATOR = "administrator"


async def put_operator(session: AsyncSession, *, email: str, password: str, role: OperatorRole) -> None:
    """The user exists with this password afterwards. Safe to repeat: an unchanged password keeps its hash."""
    address = clean_email(email)
    user = await queries.find_by_email(session, address)
    if user is None:
        await queries.insert_operator(
            session,
            user_id=OperatorUserId(new_id()),
            email=address,
            role=role,
            password_hash=hash_password(password),
        )
    elif not verify_password(user.password_hash, password):
        await queries.set_password(session, user.id, hash_password(password))
