"""What forms of the portal offer to choose from, and how what was chosen is read. Shared by keys and projects."""

import re
from datetime import UTC, date, datetime, time
from typing import Any

from litestar import Request
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_kernel.errors import Invalid
from chappe_kernel.residency import expand
from chappe_store.session import TenantScope
from chappe_tenants.naming import MAX_NAME_LENGTH
from chappe_tenants.organisations.service import get_organisation

_MAX_CHOSEN = 100
_SEPARATORS = re.compile(r"[\s,;]+")
# The last second of the chosen day: what the page then shows as its end is that day.
_END_OF_DAY = time(23, 59, 59, tzinfo=UTC)


async def read_allowed_regions(session: AsyncSession, scope: TenantScope) -> dict[str, str]:
    """Jurisdictions by region, in the organisation's order of preference."""
    tenant = await get_organisation(session, scope)
    jurisdiction_of = await read_jurisdictions(session)
    return {name: jurisdiction_of[name] for name in expand(tenant.allowed_regions, jurisdiction_of)}


async def read_chosen(request: Request[Any, Any, Any], name: str) -> tuple[str, ...]:
    """The ticked boxes of that name."""
    values = (await request.form()).getall(name, [])
    return tuple(value[:MAX_NAME_LENGTH] for value in values[:_MAX_CHOSEN] if isinstance(value, str))


def read_networks(text: str) -> tuple[str, ...] | None:
    """One a line, or with commas between. Nothing written ties to no network."""
    return tuple(part for part in _SEPARATORS.split(text) if part) or None


def read_end(text: str) -> datetime | None:
    """The end of the day that was picked, in UTC. Raises `Invalid` for what is no day."""
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), _END_OF_DAY)
    except ValueError:
        raise Invalid("not a day", param="expires_at") from None
