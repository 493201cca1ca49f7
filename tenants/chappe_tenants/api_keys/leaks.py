"""What happens to a secret that was found where it should not be: whoever has its text may end it, and nothing else."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.api_keys import Pepper, is_well_formed
from chappe_kernel.ids import KeyId, TenantId
from chappe_store.session import TenantScope
from chappe_tenants.api_keys import queries
from chappe_tenants.api_keys.service import digest_all
from chappe_tenants.browser_tokens.queries import delete_token


class Leak(Struct, frozen=True):
    """A secret of ours that is out, to be ended and for nothing else. Of a browser token it is the token alone that
    ends: the key behind it has a secret that nobody knows."""

    scope: TenantScope
    key_id: KeyId
    browser_token_id: UUID | None


async def find_leak(session: AsyncSession, text: str, peppers: Sequence[Pepper]) -> Leak | None:
    """Also of what opens nothing now and could again: a key of an archived project, or of a suspended organisation."""
    secret = text.strip()
    if not is_well_formed(secret):
        return None
    found = await queries.find_leaked(session, digest_all(secret, peppers))
    if found is None:
        return None
    return Leak(TenantScope(TenantId(found.tenant_id)), KeyId(found.key_id), found.browser_token_id)


async def end_leaked(session: AsyncSession, leak: Leak) -> None:
    """It opens nothing from now on, at gateways as soon as they hear of it. Safe to repeat."""
    if leak.browser_token_id is None:
        await queries.revoke_key(session, leak.scope, leak.key_id, revoked_for=queries.LEAKED)
    else:
        await delete_token(session, leak.scope, leak.browser_token_id)
