"""Invitations to the calling tenant."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated

from litestar import delete, get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.joining.delivery import send_once
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.members import giver_of
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, IdempotencyKey, Limit
from chappe_control.state import Given, Services
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import INVITATION, InvitationId, decode_id
from chappe_store.session import TenantScope
from chappe_tenants.invitations import queries, service
from chappe_tenants.invitations.schemas import (
    CreateInvitation,
    InvitationView,
    SentInvitation,
    show_invitation,
)
from chappe_tenants.invitations.service import Invited

InvitationIdText = Annotated[str, PathParameter(max_length=100, description="The invitation's id, `inv_…`.")]


class InvitationList(Struct, frozen=True):
    items: list[InvitationView]
    next_cursor: str | None


@get(
    "/invitations",
    permission=Permission.MANAGE_MEMBERS,
    tags=["Members"],
    summary="List invitations",
    operation_id="list_invitations",
    responses=answers.LIST,
)
async def list_invitations(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> InvitationList:
    """Invitations that nobody has accepted or withdrawn, newest first, expired ones included. For people: a management
    key cannot."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rows = await queries.list_invitations(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda invitation: invitation.id)
    return InvitationList(items=[show_invitation(invitation) for invitation in page], next_cursor=next_cursor)


@post(
    "/invitations",
    permission=Permission.MANAGE_MEMBERS,
    tags=["Members"],
    summary="Invite somebody",
    operation_id="create_invitation",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def create_invitation(
    request: TenantRequest, services: Given, data: JSONBody[CreateInvitation], idempotency_key: IdempotencyKey = None
) -> SentInvitation:
    """Asks whoever reads mail at the address to become a member, by a link that works once, within seven days. Only
    owners invite owners. A repeat with the same `Idempotency-Key` and body gets the same answer, but without a link.
    For people: a management key cannot."""
    giver = giver_of(request.auth)
    return await _send(
        request,
        services,
        lambda session, scope: service.invite(session, scope, email=data.email, role=data.role, giver=giver),
    )


@post(
    "/invitations/{invitation_id:str}/send",
    permission=Permission.MANAGE_MEMBERS,
    tags=["Members"],
    summary="Send an invitation again",
    operation_id="send_invitation",
    responses=answers.CREATE,
    status_code=HTTPStatus.OK,
)
async def send_invitation(
    request: TenantRequest, services: Given, invitation_id: InvitationIdText, idempotency_key: IdempotencyKey = None
) -> SentInvitation:
    """With a new link, which works for another seven days; links from before open nothing. At most once a minute. For
    people: a management key cannot."""
    giver, wanted = giver_of(request.auth), read_invitation_id(invitation_id)
    return await _send(
        request, services, lambda session, scope: service.send_again(session, scope, wanted, giver=giver)
    )


@delete(
    "/invitations/{invitation_id:str}",
    permission=Permission.MANAGE_MEMBERS,
    tags=["Members"],
    summary="Withdraw an invitation",
    operation_id="withdraw_invitation",
    responses=answers.REVOKE,
)
async def withdraw_invitation(request: TenantRequest, services: Given, invitation_id: InvitationIdText) -> None:
    """Its link opens nothing any more. For people: a management key cannot."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        await service.withdraw(session, scope, read_invitation_id(invitation_id), giver=giver_of(request.auth))


def read_invitation_id(text: str) -> InvitationId:
    """Raises `NotFound` for what is no invitation's id."""
    try:
        return InvitationId(decode_id(INVITATION, text))
    except Invalid:
        raise NotFound("no such invitation") from None


async def _send(
    request: TenantRequest, services: Services, work: Callable[[AsyncSession, TenantScope], Awaitable[Invited]]
) -> SentInvitation:
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        return await send_once(request, session, scope, lambda: work(session, scope))
