"""How an invitation's link gets to whoever was invited."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Request
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.idempotency import service as idempotency
from chappe_control.idempotency.queries import Owner
from chappe_control.joining.letters import INVITATION
from chappe_control.joining.links import invitation_link
from chappe_control.mail.orders import Order
from chappe_control.pages.languages import language_of
from chappe_control.state import Services
from chappe_tenants.invitations.schemas import SentInvitation, show_sent_invitation
from chappe_tenants.invitations.service import VALID_FOR, Invited


async def send_once(
    request: Request[Any, Any, Any], session: AsyncSession, caller: Owner, work: Callable[[], Awaitable[Invited]]
) -> SentInvitation:
    """Once per idempotency key of this caller's. The answer is kept without its link: that is a secret."""
    call = await idempotency.call_of(request)
    kept = await idempotency.begin(session, caller, call)
    if kept is not None:
        return msgspec.convert(kept, SentInvitation)
    invited = await work()
    link = await deliver(request, session, invited)
    view = show_sent_invitation(invited.invitation, None)
    await idempotency.finish(session, caller, call, msgspec.to_builtins(view))
    return msgspec.structs.replace(view, link=link)


async def deliver(request: Request[Any, Any, Any], session: AsyncSession, invited: Invited) -> str | None:
    """The link, for whoever invites to hand over; None where a letter takes it, once this transaction is committed.

    The letter is in the language of whoever invites: nobody else's is known.
    """
    services: Services = request.app.state["services"]
    link = invitation_link(services.settings, invited.secret)
    if not services.mail.is_open:
        return link
    values = {"secret": invited.secret, "url": link}
    order = Order(INVITATION, invited.invitation.email, language_of(request), values)
    await services.mail.order(session, order, useful_for=VALID_FOR)
    return None
