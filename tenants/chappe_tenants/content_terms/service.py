"""How long a region may keep a project's content."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.residency import expand, narrow
from chappe_kernel.wire.control import ContentHolder, ContentTerms
from chappe_tenants.content_terms import queries
from chappe_tenants.content_terms.queries import FoundTerms
from chappe_tenants.organisations.lifecycle import TenantState


async def content_terms(
    session: AsyncSession, region: str, holders: Sequence[ContentHolder], jurisdiction_of: dict[str, str]
) -> list[ContentTerms]:
    """One for each holder, in their order. What nobody knows may not be kept. As a region."""
    found = await queries.find_terms(session, holders)
    kept_for_s = {
        ContentHolder(terms.tenant_id, terms.project_id): _kept_for_s(terms, region, jurisdiction_of) for terms in found
    }
    return [ContentTerms(holder, kept_for_s.get(holder, 0.0)) for holder in holders]


def _kept_for_s(terms: FoundTerms, region: str, jurisdiction_of: dict[str, str]) -> float:
    """A key's own regions say where it may be used, and nothing of what its project keeps."""
    project = None if terms.project_regions is None else expand(terms.project_regions, jurisdiction_of)
    allowed = narrow(expand(terms.tenant_regions, jurisdiction_of), project)
    if terms.tenant_state == TenantState.CLOSED or region not in allowed:
        return 0.0
    return float(terms.kept_for_s)
