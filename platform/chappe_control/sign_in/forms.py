"""What people type to sign up and in: what is read of it, what is wrong with it, and where they go afterwards."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from litestar import Request, Response
from litestar.response import Redirect

from chappe_control.pages.forms import WHOLE_FORM, Form
from chappe_control.pages.guards import same_site_path
from chappe_control.pages.languages import N_, translate
from chappe_control.state import Services
from chappe_kernel.errors import ChappeError, Denied, Invalid, LimitExceeded, Unavailable
from chappe_tenants.naming import clean_email, clean_name
from chappe_tenants.passwords import check_password

PageRequest = Request[Any, Any, Any]

SEE_OTHER: Final = 303
GONE: Final = 410
UNPROCESSABLE: Final = 422
_CONSOLE = "/console"

_FIELD_ERRORS = {
    "organisation": N_("Enter your organisation's name, of at most 100 characters."),
    "email": N_("Enter an e-mail address, like name@company.example."),
}
_CLEANERS: Mapping[str, Callable[..., str]] = {"organisation": clean_name, "email": clean_email}
_PASSWORD_ERRORS = {
    "password_too_short": N_("Use at least 12 characters."),
    "password_too_long": N_("Use at most 256 characters."),
    "password_unreadable": N_("Use characters that can be typed again."),
    "password_guessable": N_("This password is easy to guess. Use more different words or characters."),
}
_REFUSALS = {
    "wrong_sign_in": N_("The e-mail address or the password is wrong."),
    "tenant_not_active": N_("Your organisation's account is not active. Please contact your provider."),
    "no_organisation": N_("Your account belongs to no organisation any more. Ask one of its owners for an invitation."),
    "email_taken": N_("There is an account with this e-mail address already. Sign in with it."),
}
_TOO_MANY = N_("Too many attempts. Wait a minute, then try again.")
_BUSY = N_("Too many people are signing in at this moment. Try again in a few seconds.")


def portal_target(text: str | None) -> str:
    """Where a member goes after signing in."""
    path = same_site_path(text, default="/overview")
    return "/overview" if _is_of_console(path) else path


def console_target(text: str | None) -> str:
    """Where a user of the operator's goes."""
    path = same_site_path(text, default=_CONSOLE)
    return path if _is_of_console(path) else _CONSOLE


def is_sign_up_open(services: Services) -> bool:
    """Without mail there is no link to finish it with."""
    return services.settings.sign_up_open and services.mail.is_open


def read_cleaned(request: PageRequest, fields: Mapping[str, str], *names: str) -> tuple[dict[str, str], dict[str, str]]:
    """Of `organisation` and `email` those that are named, as they are stored, and errors by field in the visitor's
    language."""
    clean: dict[str, str] = {}
    errors: dict[str, str] = {}
    for name in names:
        try:
            clean[name] = _CLEANERS[name](fields[name], param=name)
        except Invalid:
            errors[name] = translate(request, _FIELD_ERRORS[name])
    return clean, errors


def password_errors(request: PageRequest, password: str, personal: Sequence[str]) -> dict[str, str]:
    """What is wrong with a new password, in the visitor's language; `personal` is what anybody would guess first."""
    try:
        check_password(password, personal)
    except Invalid as error:
        return {"password": translate(request, _PASSWORD_ERRORS[error.code])}
    return {}


def personal_words(email: str, organisation: str | None = None) -> list[str]:
    return [email, *email.split("@"), *([organisation] if organisation else [])]


def refused(request: PageRequest, error: ChappeError, values: Mapping[str, str]) -> tuple[Form, int, dict[str, str]]:
    """The form with what was typed, a status and headers. Raises `error` again if it is none that a person can mend."""
    headers: dict[str, str] = {}
    if isinstance(error, LimitExceeded):
        text, status = _TOO_MANY, 429
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    elif isinstance(error, Unavailable) and error.code == "too_many_sign_ins":
        text, status = _BUSY, 503
        headers["retry-after"] = "5"
    elif error.code in _REFUSALS:
        text, status = _REFUSALS[error.code], 403 if isinstance(error, Denied) else UNPROCESSABLE
    else:
        raise error
    return Form(values, {WHOLE_FORM: translate(request, text)}), status, headers


def go_to(path: str) -> Response[Any]:
    return Redirect(path, status_code=SEE_OTHER)


def _is_of_console(path: str) -> bool:
    return path == _CONSOLE or path.startswith((f"{_CONSOLE}/", f"{_CONSOLE}?"))
