"""A tenant's people: signing in and out, and signing up."""

from typing import Any

from litestar import Response, get, post

from chappe_control.origins import source_of
from chappe_control.pages.cookies import PORTAL_COOKIE, ended_cookie, session_cookie
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.guards import PORTAL_SIGN_IN, read_member
from chappe_control.pages.render import page
from chappe_control.sign_in import service
from chappe_control.sign_in.forms import (
    SEE_OTHER,
    UNPROCESSABLE,
    PageRequest,
    client_address,
    go_to,
    portal_target,
    read_sign_up,
    refused,
)
from chappe_control.state import Given
from chappe_kernel.errors import ChappeError

SIGN_UP = "/sign-up"
_WELCOME = "/keys?welcome=1"


@get(PORTAL_SIGN_IN)
async def show_sign_in(request: PageRequest, services: Given) -> Response[Any]:
    target = portal_target(request.query_params.get("next"))
    if await read_member(request) is not None:
        return go_to(target)
    return _sign_in_page(request, services, Form(), target)


@post(PORTAL_SIGN_IN, status_code=SEE_OTHER)
async def sign_in(request: PageRequest, services: Given) -> Response[Any]:
    fields = await read_fields(request, "email", "password", "next")
    target = portal_target(fields["next"])
    asked = service.SignIn(
        fields["email"],
        fields["password"],
        client_address(request),
        source_of(request),
        request.cookies.get(PORTAL_COOKIE),
    )
    try:
        secret = await service.sign_in_member(services, asked)
    except ChappeError as error:
        form, status, headers = refused(request, error, {"email": fields["email"]})
        return _sign_in_page(request, services, form, target, status=status, headers=headers)
    response = go_to(target)
    response.set_cookie(session_cookie(PORTAL_COOKIE, secret))
    return response


@post("/sign-out", status_code=SEE_OTHER)
async def sign_out(request: PageRequest, services: Given) -> Response[Any]:
    """For whoever holds the cookie, signed in or not any more."""
    await service.sign_out_member(services, request.cookies.get(PORTAL_COOKIE), source_of(request))
    response = go_to(PORTAL_SIGN_IN)
    response.set_cookie(ended_cookie(PORTAL_COOKIE))
    return response


@get(SIGN_UP)
async def show_sign_up(request: PageRequest, services: Given) -> Response[Any]:
    if await read_member(request) is not None:
        return go_to(portal_target(None))
    return _sign_up_page(request, services, Form())


@post(SIGN_UP, status_code=SEE_OTHER)
async def sign_up(request: PageRequest, services: Given) -> Response[Any]:
    """Reads three fields and no other: what else a form carries (a role, a credit) has no effect."""
    if not services.settings.sign_up_open:
        return _sign_up_page(request, services, Form(), status=403)
    fields = await read_fields(request, "organisation", "email", "password")
    typed = {name: fields[name] for name in ("organisation", "email")}
    clean, errors = read_sign_up(request, fields)
    if errors:
        return _sign_up_page(request, services, Form(typed, errors), status=UNPROCESSABLE)
    try:
        asked = service.SignUp(**clean, address=client_address(request), source=source_of(request))
        secret = await service.sign_up(services, asked)
    except ChappeError as error:
        form, status, headers = refused(request, error, typed)
        return _sign_up_page(request, services, form, status=status, headers=headers)
    await service.sign_out_member(services, request.cookies.get(PORTAL_COOKIE), source_of(request))
    response = go_to(_WELCOME)
    response.set_cookie(session_cookie(PORTAL_COOKIE, secret))
    return response


def _sign_in_page(request: PageRequest, services: Given, form: Form, target: str, **how: Any) -> Response[Any]:
    return page(
        request,
        "sign_in/sign_in.html",
        realm="portal",
        action=PORTAL_SIGN_IN,
        form=form,
        next=target,
        sign_up_open=services.settings.sign_up_open,
        **how,
    )


def _sign_up_page(request: PageRequest, services: Given, form: Form, **how: Any) -> Response[Any]:
    return page(request, "sign_in/sign_up.html", form=form, open=services.settings.sign_up_open, **how)
