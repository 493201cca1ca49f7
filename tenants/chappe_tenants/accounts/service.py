"""What happens to accounts. All of it as the operator: an account is no tenant's."""

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import Conflict
from chappe_kernel.ids import AccountId, new_id
from chappe_tenants.accounts import queries
from chappe_tenants.naming import clean_email
from chappe_tenants.passwords import hash_password, verify_password
from chappe_tenants.sessions import queries as sessions


async def open_account(session: AsyncSession, *, email: str, password_hash: str) -> AccountId:
    """A new account, a member of nothing yet. `email` is clean. Raises `Conflict` if somebody has the address."""
    account_id = AccountId(new_id())
    if not await queries.insert_account(session, account_id=account_id, email=email, password_hash=password_hash):
        raise Conflict("somebody has this address already", code="email_taken", param="email")
    return account_id


async def set_password(session: AsyncSession, account_id: AccountId, password_hash: str) -> None:
    """The old password opens nothing any more, and neither do sessions that it opened, in whatever organisation."""
    await queries.set_password(session, account_id, password_hash)
    await sessions.delete_sessions_of_account(session, account_id)


async def put_account(session: AsyncSession, *, email: str, password: str) -> AccountId:
    """The account exists with this password afterwards. Safe to repeat: an unchanged password keeps its hash."""
    address = clean_email(email)
    account = await queries.find_by_email(session, address)
    if account is None:
        return await open_account(session, email=address, password_hash=hash_password(password))
    account_id = AccountId(account.id)
    if not verify_password(account.password_hash, password):
        await set_password(session, account_id, hash_password(password))
    return account_id
