"""SQL for accounts: across tenants, so for the operator's role, but for the look-up that a sign-in begins with."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import AccountId
from chappe_tenants.accounts.models import Account

_FIND = text("SELECT * FROM find_account(:address)")


class Membership(Struct, frozen=True):
    """An account's place in an organisation."""

    tenant_id: UUID
    member_id: UUID
    tenant_name: str
    tenant_state: str


class FoundAccount(Struct, frozen=True):
    """What a sign-in needs to know before a tenant is known. `memberships`: last signed in to first."""

    account_id: AccountId
    password_hash: str
    memberships: Sequence[Membership]


async def find_account(session: AsyncSession, email: str) -> FoundAccount | None:
    """By a function that alone may look before the tenant is known."""
    rows = (await session.execute(_FIND, {"address": email})).all()
    if not rows:
        return None
    memberships = [
        Membership(row.tenant_id, row.member_id, row.tenant_name, row.tenant_state)
        for row in rows
        if row.tenant_id is not None
    ]
    return FoundAccount(AccountId(rows[0].account_id), rows[0].password_hash, memberships)


async def find_by_email(session: AsyncSession, email: str) -> Account | None:
    found: Account | None = await session.scalar(select(Account).where(Account.email == email))
    return found


async def insert_account(session: AsyncSession, *, account_id: AccountId, email: str, password_hash: str) -> bool:
    """False, and nothing inserted, if somebody has this address."""
    inserted = await session.scalar(
        insert(Account)
        .values(id=account_id, email=email, password_hash=password_hash)
        .on_conflict_do_nothing(index_elements=["email"])
        .returning(Account.id)
    )
    return inserted is not None


async def set_password(session: AsyncSession, account_id: UUID, password_hash: str) -> None:
    await session.execute(update(Account).where(Account.id == account_id).values(password_hash=password_hash))
