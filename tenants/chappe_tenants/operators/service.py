"""What happens to the operator's users."""

from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Conflict, NotFound
from chappe_kernel.ids import OperatorUserId, new_id
from chappe_tenants.naming import clean_email
from chappe_tenants.operators import queries
from chappe_tenants.operators.models import OperatorUser
from chappe_tenants.passwords import check_password, hash_password, verify_password
from chappe_tenants.sessions import queries as sessions


class OperatorRole(StrEnum):
    """What a user may do in the operator's console."""

    ADMINISTRATOR = "administrator"
    SUPPORT = "support"
    FINANCE = "finance"
    AUDITOR = "auditor"


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


async def create_operator(session: AsyncSession, *, email: str, password: str, role: OperatorRole) -> None:
    """A new user. Raises `Conflict` when there is one with this address, `Invalid` for a poor password."""
    address = clean_email(email)
    check_password(password, [address])
    if await queries.find_by_email(session, address) is not None:
        raise Conflict("there is an operator with this address", code="email_taken", param="email")
    await queries.insert_operator(
        session, user_id=OperatorUserId(new_id()), email=address, role=role, password_hash=hash_password(password)
    )


async def set_operator_role(session: AsyncSession, *, email: str, role: OperatorRole) -> None:
    """From the next request on, in open sessions too: each request reads the role. Raises `NotFound`."""
    await queries.set_role(session, (await find_operator(session, email)).id, role)


async def set_operator_password(session: AsyncSession, *, email: str, password: str) -> None:
    """The old one opens nothing any more, and neither do sessions that it opened. Raises `NotFound`, `Invalid`."""
    user = await find_operator(session, email)
    check_password(password, [user.email])
    await queries.set_password(session, user.id, hash_password(password))
    await sessions.delete_sessions_of_operator(session, user.id)


async def find_operator(session: AsyncSession, email: str) -> OperatorUser:
    """Raises `NotFound`, and `Invalid` for what is no address."""
    user = await queries.find_by_email(session, clean_email(email))
    if user is None:
        raise NotFound("there is no operator with this address", param="email")
    return user
