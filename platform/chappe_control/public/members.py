"""Members of the calling tenant."""

from typing import Annotated

from litestar import Response, delete, get, patch
from litestar.params import JSONBody, PathParameter
from msgspec import Struct

from chappe_control.authentication import TenantCaller, TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, Limit
from chappe_control.state import Given
from chappe_kernel.errors import Denied, Invalid, NotFound
from chappe_kernel.ids import MEMBER, MemberId, decode_id
from chappe_tenants.members import queries, service
from chappe_tenants.members.schemas import ChangeMember, MemberView, show_member
from chappe_tenants.sessions.service import MemberVisitor

MemberIdText = Annotated[str, PathParameter(max_length=100, description="The member's id, `mem_…`.")]

# Whoever signs in all the time could otherwise never be changed.
_CHANGES_BY_ITSELF = ("last_signed_in_at",)


class MemberList(Struct, frozen=True):
    items: list[MemberView]
    next_cursor: str | None


@get(
    "/members",
    permission=Permission.READ_MEMBERS,
    tags=["Members"],
    summary="List members",
    operation_id="list_members",
    responses=answers.LIST,
)
async def list_members(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> MemberList:
    """The organisation's members, newest first."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rows = await queries.list_members(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda member: member.id)
    return MemberList(items=[show_member(member) for member in page], next_cursor=next_cursor)


@get(
    "/members/{member_id:str}",
    permission=Permission.READ_MEMBERS,
    tags=["Members"],
    summary="Get a member",
    operation_id="get_member",
    responses=answers.READ_ONE,
    response_headers=[ETAG_HEADER],
)
async def get_member(request: TenantRequest, services: Given, member_id: MemberIdText) -> Response[MemberView]:
    """One member, with the tag that a change of their role needs."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        member = await service.get_member(session, scope, read_member_id(member_id))
    return with_etag(show_member(member), ignoring=_CHANGES_BY_ITSELF)


@patch(
    "/members/{member_id:str}",
    permission=Permission.MANAGE_MEMBERS,
    tags=["Members"],
    summary="Change a member's role",
    operation_id="change_member",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change_member(
    request: TenantRequest,
    services: Given,
    member_id: MemberIdText,
    data: JSONBody[ChangeMember],
    if_match: IfMatch = None,
) -> Response[MemberView]:
    """The role counts from the member's next request on. Only owners make owners and unmake them, and one stays. For
    people: a management key cannot."""
    scope, wanted = request.auth.scope, read_member_id(member_id)
    async with services.database.tenant(scope, origin_of(request)) as session:
        await queries.lock_owners(session, scope)
        present = show_member(await service.get_member(session, scope, wanted))
        check_match(request, present, ignoring=_CHANGES_BY_ITSELF)
        member = await service.change_role(session, scope, wanted, data.role, giver=giver_of(request.auth))
    return with_etag(show_member(member), ignoring=_CHANGES_BY_ITSELF)


@delete(
    "/members/{member_id:str}",
    permission=Permission.MANAGE_MEMBERS,
    tags=["Members"],
    summary="Remove a member",
    operation_id="remove_member",
    responses=answers.REMOVE,
)
async def remove_member(request: TenantRequest, services: Given, member_id: MemberIdText) -> None:
    """Their sessions here end at once, with the playground's tokens and the keys that are theirs alone. Their account,
    and what it is in other organisations, stays. Only owners remove owners, and one stays. For people: a management key
    cannot."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        await service.remove_member(session, scope, read_member_id(member_id), giver=giver_of(request.auth))


def read_member_id(text: str) -> MemberId:
    """Raises `NotFound` for what is no member's id."""
    try:
        return MemberId(decode_id(MEMBER, text))
    except Invalid:
        raise NotFound("no such member") from None


def giver_of(caller: TenantCaller) -> MemberId:
    """Who gives a role away. The table of permissions lets no key come here; a role is somebody's to give."""
    if not isinstance(caller, MemberVisitor):
        raise Denied("members are managed by people, not by keys", code="role_denied")
    return caller.member_id
