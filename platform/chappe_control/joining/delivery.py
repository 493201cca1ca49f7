"""How an invitation's link gets to whoever was invited."""

from typing import Any

from litestar import Request
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.joining.links import invitation_link
from chappe_tenants.invitations.service import Invited


async def deliver(request: Request[Any, Any, Any], session: AsyncSession, invited: Invited) -> str | None:
    """The link, for whoever invites to hand over; None where a letter takes it, once this transaction is committed."""
    return invitation_link(request.app.state["services"].settings, invited.secret)
