"""The form that asks somebody to own an organisation: the console's for any tenant, a reseller's for its customer."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_control.joining.delivery import deliver
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_kernel.errors import ChappeError, Conflict, Invalid, LimitExceeded
from chappe_store.session import TenantScope
from chappe_tenants.invitations.service import invite_owner
from chappe_tenants.organisations.lifecycle import Authority

Show = Callable[..., Awaitable[Response[bytes]]]
"""The form's page: with a `form`, and perhaps a `status`; or, where no mail takes the link, with an `invitation` and
its `invitation_link`. That answer is then the only place where the link ever is: it must not be kept."""

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_FIELD = "email"
_PROBLEMS = {
    "invalid_email": (_FIELD, N_("Enter an e-mail address, like name@company.example.")),
    "already_member": (_FIELD, N_("Somebody with this address is a member already.")),
    "already_invited": (_FIELD, N_("This address was invited already, in another role.")),
    "sent_lately": (_FIELD, N_("This invitation was sent a moment ago. Wait a minute before you send it again.")),
    "has_owner": (WHOLE_FORM, N_("It has an owner by now, who invites all others.")),
    "organisation_closed": (WHOLE_FORM, N_("A closed organisation has no new members.")),
    "too_many_invitations": (WHOLE_FORM, N_("Too many invitations are open. Withdraw some that nobody will accept.")),
}


async def invite_by_form(
    request: Request[Any, Any, Any],
    transaction: AbstractAsyncContextManager[AsyncSession],
    scope: TenantScope,
    authority: Authority,
    *,
    show: Show,
    back: str,
) -> Response[Any]:
    """What was posted, done as `authority` in the operator's `transaction`; then `back` to the organisation's page."""
    typed = await read_fields(request, _FIELD)
    try:
        async with transaction as session:
            invited = await invite_owner(session, scope, typed[_FIELD], authority)
            link = await deliver(request, session, invited)
    except (Invalid, Conflict, LimitExceeded) as error:
        return await show(form=_refused(request, error, typed), status=HTTPStatus.UNPROCESSABLE_ENTITY)
    if link is not None:
        return await show(form=Form(), invitation=invited.invitation, invitation_link=link)
    response = Redirect(back, status_code=_SEE_OTHER)
    flash(
        response, translate(request, N_("The invitation is on its way to %(email)s."), email=invited.invitation.email)
    )
    return response


def _refused(request: Request[Any, Any, Any], error: ChappeError, typed: dict[str, str]) -> Form:
    """The form with what was typed. Raises `error` again if it is none that a person can mend."""
    if error.code not in _PROBLEMS:
        raise error
    name, text = _PROBLEMS[error.code]
    return Form(typed, {name: translate(request, text)})
