"""SQL of content terms."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ARRAY, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.wire.control import ContentHolder

_IDS = (bindparam("tenants", type_=ARRAY(Uuid)), bindparam("projects", type_=ARRAY(Uuid)))
_FIND = text("SELECT * FROM find_content_terms(:tenants, :projects)").bindparams(*_IDS)


class FoundTerms(Struct, frozen=True):
    """What a tenant and its project say of one holder."""

    tenant_id: UUID
    project_id: UUID
    kept_for_s: int
    tenant_state: str
    tenant_regions: list[str]
    project_regions: list[str] | None


async def find_terms(session: AsyncSession, holders: Sequence[ContentHolder]) -> list[FoundTerms]:
    """Those that exist. By a function that alone may look without a tenant."""
    asked = {
        "tenants": [holder.tenant_id for holder in holders],
        "projects": [holder.project_id for holder in holders],
    }
    return [FoundTerms(**row) for row in (await session.execute(_FIND, asked)).mappings()]
