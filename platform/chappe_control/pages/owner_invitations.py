"""The form that asks somebody to own an organisation: the console's for any tenant, a reseller's for its customer."""

from typing import Any

from litestar import Request

from chappe_control.pages.forms import WHOLE_FORM, Form
from chappe_control.pages.languages import N_, translate
from chappe_kernel.errors import ChappeError

FIELD = "email"
SENT = N_("The invitation is on its way to %(email)s.")

_PROBLEMS = {
    "invalid_email": (FIELD, N_("Enter an e-mail address, like name@company.example.")),
    "already_member": (FIELD, N_("Somebody with this address is a member already.")),
    "already_invited": (FIELD, N_("This address was invited already, in another role.")),
    "sent_lately": (FIELD, N_("This invitation was sent a moment ago. Wait a minute before you send it again.")),
    "has_owner": (WHOLE_FORM, N_("It has an owner by now, who invites all others.")),
    "organisation_closed": (WHOLE_FORM, N_("A closed organisation has no new members.")),
    "too_many_invitations": (WHOLE_FORM, N_("Too many invitations are open. Withdraw some that nobody will accept.")),
}


def refused_owner(request: Request[Any, Any, Any], error: ChappeError, typed: dict[str, str]) -> Form:
    """The form with what was typed. Raises `error` again if it is none that a person can mend."""
    if error.code not in _PROBLEMS:
        raise error
    name, text = _PROBLEMS[error.code]
    return Form(typed, {name: translate(request, text)})
