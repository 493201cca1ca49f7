"""`/join`: what an invitation's link opens, for whoever is signed in, has an account, or is new."""

from http import HTTPStatus
from typing import Any, Final

from litestar import Response, get, post

from chappe_control.joining import service
from chappe_control.joining.links import JOIN
from chappe_control.joining.service import Joining
from chappe_control.origins import source_of
from chappe_control.pages.cookies import PORTAL_COOKIE, session_cookie
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.guards import read_member
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.render import page
from chappe_control.pages.roles import MEMBER_ROLES
from chappe_control.sign_in.attempts import Realm
from chappe_control.sign_in.forms import (
    SEE_OTHER,
    UNPROCESSABLE,
    PageRequest,
    go_to,
    password_errors,
    refused,
)
from chappe_control.sign_in.service import device_cookie
from chappe_control.state import Given
from chappe_control.throttle import client_of
from chappe_kernel.errors import ChappeError, NotFound
from chappe_tenants.invitations.queries import FoundInvitation
from chappe_tenants.members.service import Role
from chappe_tenants.sessions.service import MemberVisitor

# The framework's type wants the number itself.
_GONE: Final = 410

_REFUSALS = {
    "wrong_sign_in": N_("The password is wrong."),
    "tenant_not_active": N_("This organisation is not active. Ask whoever invited you."),
    "already_member": N_("You are a member of this organisation already. Sign in."),
    "too_many_members": N_("This organisation has as many members as it may have. Ask whoever invited you."),
    "account_since": N_("Your address has got an account in the meantime. Open the link again and sign in."),
}


@get(JOIN)
async def show_invitation(request: PageRequest, services: Given) -> Response[Any]:
    """Looking is free: programs that scan mail look at every link."""
    secret = request.query_params.get("link", "")
    try:
        found = await service.look_at(services, secret)
    except NotFound:
        return _over(request)
    return _show(request, found, secret, await read_member(request), Form())


@post(JOIN, status_code=SEE_OTHER)
async def accept_invitation(request: PageRequest, services: Given) -> Response[Any]:
    fields = await read_fields(request, "link", "password")
    secret, password = fields["link"], fields["password"]
    visitor = await read_member(request)
    try:
        found = await service.look_at(services, secret)
    except NotFound:
        return _over(request)
    if found.account_id is None:
        errors = password_errors(request, password, [found.email, *found.email.split("@"), found.tenant_name])
        if errors:
            return _show(request, found, secret, visitor, Form({}, errors), status=UNPROCESSABLE)
    presented = request.cookies.get(PORTAL_COOKIE)
    asked = Joining(visitor, presented, password, client_of(request), source_of(request))
    try:
        opened = await service.join(services, found, asked)
    except NotFound:
        return _over(request)
    except ChappeError as error:
        form, status, headers = _refused(request, error)
        return _show(request, found, secret, visitor, form, status=status, headers=headers)
    response = go_to("/overview")
    response.set_cookie(session_cookie(PORTAL_COOKIE, opened))
    response.set_cookie(device_cookie(services, Realm.PORTAL, found.email))
    flash(response, translate(request, N_("Welcome to %(organisation)s!"), organisation=found.tenant_name))
    return response


def _refused(request: PageRequest, error: ChappeError) -> tuple[Form, int, dict[str, str]]:
    """Raises `error` again if it is none that a person can mend."""
    if error.code in _REFUSALS:
        status = HTTPStatus.FORBIDDEN if error.code == "wrong_sign_in" else HTTPStatus.CONFLICT
        return Form({}, {WHOLE_FORM: translate(request, _REFUSALS[error.code])}), status, {}
    return refused(request, error, {})


def _show(
    request: PageRequest, found: FoundInvitation, secret: str, visitor: MemberVisitor | None, form: Form, **how: Any
) -> Response[Any]:
    return page(
        request,
        "joining/join.html",
        found=found,
        role=MEMBER_ROLES[Role(found.role)],
        secret=secret,
        somebody=visitor,
        is_invited=service.is_invited(visitor, found),
        form=form,
        **how,
    )


def _over(request: PageRequest) -> Response[Any]:
    """The same for every link that opens nothing, whatever it was."""
    return page(request, "joining/over.html", status=_GONE)
