"""`/members`: who belongs to the organisation, in which role, and who is asked to."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import PathParameter
from litestar.response import Redirect

from chappe_control.cursors import decode_cursor
from chappe_control.joining.delivery import deliver
from chappe_control.origins import origin_of
from chappe_control.pages.cookies import PORTAL_COOKIE, ended_cookie
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.guards import PORTAL_SIGN_IN
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.render import page
from chappe_control.pages.roles import MEMBER_ROLE_TEXTS, MEMBER_ROLES
from chappe_control.permissions import Permission, may
from chappe_control.portal.members.service import read_members
from chappe_control.public.invitations import read_invitation_id
from chappe_control.public.members import read_member_id
from chappe_control.state import Given, Services
from chappe_kernel.errors import ChappeError, Conflict, Denied, Invalid, LimitExceeded
from chappe_tenants.invitations import service as invitations
from chappe_tenants.invitations.queries import InvitationRecord
from chappe_tenants.invitations.service import Invited
from chappe_tenants.members import queries, service
from chappe_tenants.members.service import Role, may_give
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]
MemberIdText = Annotated[str, PathParameter()]
InvitationIdText = Annotated[str, PathParameter()]

_MEMBERS = "/members"
# The framework's type wants the number itself.
_SEE_OTHER: Final = 303

_PROBLEMS = {
    "invalid_email": ("email", N_("Enter an e-mail address, like name@company.example.")),
    "already_member": ("email", N_("Somebody with this address is a member already.")),
    "already_invited": ("email", N_("This address was invited already. You can send the invitation again below.")),
    "invalid_role": ("role", N_("Choose one of the roles.")),
    "owners_only": ("role", N_("Only owners may give this role.")),
    "too_many_invitations": (WHOLE_FORM, N_("Too many invitations are open. Withdraw some that nobody will accept.")),
}
_LAST_OWNER = N_("An organisation keeps at least one owner. Make somebody else an owner first.")
_OWNERS_ONLY = N_("Only owners change and remove owners.")
_SENT_LATELY = N_("This invitation was sent a moment ago. Wait a minute before you send it again.")


@get(_MEMBERS, include_in_schema=False, permission=Permission.READ_MEMBERS)
async def list_members(request: MemberRequest, services: Given) -> Response[bytes]:
    return await _members(request, services)


@post("/members/invite", include_in_schema=False, permission=Permission.MANAGE_MEMBERS)
async def invite(request: MemberRequest, services: Given) -> Response[Any]:
    fields = await read_fields(request, "email", "role")
    visitor = request.auth
    try:
        role = _read_role(fields["role"])
        async with services.database.tenant(visitor.scope, origin_of(request)) as session:
            invited = await invitations.invite(
                session, visitor.scope, email=fields["email"], role=role, giver=visitor.member_id
            )
            link = await deliver(request, session, invited)
    except (Invalid, Conflict, Denied) as error:
        if error.code not in _PROBLEMS:
            raise
        name, text = _PROBLEMS[error.code]
        form = Form(fields, {name: translate(request, text)})
        return await _members(request, services, form=form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return _show_sent(request, invited, link)


@post("/members/invitations/{invitation_id:str}/send", include_in_schema=False, permission=Permission.MANAGE_MEMBERS)
async def send_invitation(request: MemberRequest, services: Given, invitation_id: InvitationIdText) -> Response[Any]:
    visitor, wanted = request.auth, read_invitation_id(invitation_id)
    try:
        async with services.database.tenant(visitor.scope, origin_of(request)) as session:
            invited = await invitations.send_again(session, visitor.scope, wanted, giver=visitor.member_id)
            link = await deliver(request, session, invited)
    except (Denied, LimitExceeded) as error:
        return _refused(request, error)
    return _show_sent(request, invited, link)


@post(
    "/members/invitations/{invitation_id:str}/withdraw", include_in_schema=False, permission=Permission.MANAGE_MEMBERS
)
async def withdraw_invitation(
    request: MemberRequest, services: Given, invitation_id: InvitationIdText
) -> Response[Any]:
    visitor, wanted = request.auth, read_invitation_id(invitation_id)
    try:
        async with services.database.tenant(visitor.scope, origin_of(request)) as session:
            withdrawn = await invitations.withdraw(session, visitor.scope, wanted, giver=visitor.member_id)
    except Denied as error:
        return _refused(request, error)
    return _back(request, N_("The invitation of %(email)s is withdrawn."), email=withdrawn.email)


@get("/members/{member_id:str}", include_in_schema=False, permission=Permission.MANAGE_MEMBERS)
async def show_member(request: MemberRequest, services: Given, member_id: MemberIdText) -> Response[bytes]:
    visitor, wanted = request.auth, read_member_id(member_id)
    async with services.database.tenant(visitor.scope) as session:
        member = await service.get_member(session, visitor.scope, wanted)
        owners = await queries.count_owners(session, visitor.scope)
    return page(
        request,
        "portal/member.html",
        member=member,
        form=Form({"role": member.role}),
        is_self=member.id == visitor.member_id,
        is_last_owner=member.role == Role.OWNER and owners == 1,
        may_change=may_give(visitor.role, Role(member.role)),
        **_about_roles(visitor),
    )


@post("/members/{member_id:str}", include_in_schema=False, permission=Permission.MANAGE_MEMBERS)
async def change_role(request: MemberRequest, services: Given, member_id: MemberIdText) -> Response[Any]:
    visitor, wanted = request.auth, read_member_id(member_id)
    role = _read_role((await read_fields(request, "role"))["role"])
    try:
        async with services.database.tenant(visitor.scope, origin_of(request)) as session:
            member = await service.change_role(session, visitor.scope, wanted, role, giver=visitor.member_id)
    except (Conflict, Denied) as error:
        return _refused(request, error)
    return _back(
        request,
        N_("%(email)s has the role “%(role)s” now."),
        email=member.email,
        role=translate(request, MEMBER_ROLES[role]),
    )


@post("/members/{member_id:str}/remove", include_in_schema=False, permission=Permission.MANAGE_MEMBERS)
async def remove_member(request: MemberRequest, services: Given, member_id: MemberIdText) -> Response[Any]:
    visitor, wanted = request.auth, read_member_id(member_id)
    try:
        async with services.database.tenant(visitor.scope, origin_of(request)) as session:
            member = await service.remove_member(session, visitor.scope, wanted, giver=visitor.member_id)
    except (Conflict, Denied) as error:
        return _refused(request, error)
    if member.id == visitor.member_id:
        return _signed_out()
    return _back(request, N_("%(email)s is not a member any more, and signed out."), email=member.email)


@post("/members/leave", include_in_schema=False, permission=Permission.READ_MEMBERS)
async def leave(request: MemberRequest, services: Given) -> Response[Any]:
    """For everybody: whoever is no last owner may go."""
    visitor = request.auth
    try:
        async with services.database.tenant(visitor.scope, origin_of(request)) as session:
            await service.remove_member(session, visitor.scope, visitor.member_id, giver=visitor.member_id)
    except Conflict as error:
        return _refused(request, error)
    return _signed_out()


async def _members(
    request: MemberRequest, services: Services, *, form: Form | None = None, status: HTTPStatus = HTTPStatus.OK
) -> Response[bytes]:
    """Raises `Invalid` for a cursor that is not one of ours."""
    visitor = request.auth
    before = decode_cursor(request.query_params.get("cursor"))
    manages = may(visitor.role, Permission.MANAGE_MEMBERS)
    async with services.database.tenant(visitor.scope) as session:
        found = await read_members(session, visitor.scope, before, with_invitations=manages)
    return page(
        request,
        "portal/members.html",
        status=status,
        found=found,
        form=form or Form({"role": Role.DEVELOPER}),
        form_is_open=form is not None or "new" in request.query_params,
        may_change={role: may_give(visitor.role, role) for role in Role},
        **_about_roles(visitor),
    )


def _about_roles(visitor: MemberVisitor) -> dict[str, Any]:
    return {
        "role_names": MEMBER_ROLES,
        "role_texts": MEMBER_ROLE_TEXTS,
        "given_roles": [role for role in Role if may_give(visitor.role, role)],
    }


def _show_sent(request: MemberRequest, invited: Invited, link: str | None) -> Response[Any]:
    if link is None:
        return _back(request, N_("The invitation is on its way to %(email)s."), email=invited.invitation.email)
    return _show_link(request, invited.invitation, link)


def _show_link(request: MemberRequest, invitation: InvitationRecord, link: str) -> Response[bytes]:
    """The answer is the only place where the link ever is: in no address, no cookie, no log, and not stored."""
    headers = {"cache-control": "no-store"}
    return page(request, "portal/invitation_link.html", headers=headers, invitation=invitation, invitation_link=link)


def _read_role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise Invalid("there is no such role", code="invalid_role", param="role") from None


def _refused(request: MemberRequest, error: ChappeError) -> Response[Any]:
    texts = {"last_owner": _LAST_OWNER, "owners_only": _OWNERS_ONLY, "sent_lately": _SENT_LATELY}
    if error.code not in texts:
        raise error
    return _back(request, texts[error.code], "red")


def _back(request: MemberRequest, text: str, colour: str = "green", **values: str) -> Response[Any]:
    response = Redirect(_MEMBERS, status_code=_SEE_OTHER)
    flash(response, translate(request, text, **values), colour)
    return response


def _signed_out() -> Response[Any]:
    response = Redirect(PORTAL_SIGN_IN, status_code=_SEE_OTHER)
    response.set_cookie(ended_cookie(PORTAL_COOKIE))
    return response
