"""A tenant's people: signing in and out."""

from typing import Any

from litestar import Response, get, post

from chappe_control.origins import source_of
from chappe_control.pages.cookies import PORTAL_COOKIE, ended_cookie, session_cookie
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.guards import PORTAL_SIGN_IN, read_member
from chappe_control.pages.languages import language_of
from chappe_control.pages.render import page
from chappe_control.sign_in import service
from chappe_control.sign_in.attempts import Realm
from chappe_control.sign_in.devices import DEVICE_COOKIES
from chappe_control.sign_in.forms import (
    SEE_OTHER,
    PageRequest,
    go_to,
    is_sign_up_open,
    portal_target,
    refused,
)
from chappe_control.state import Given
from chappe_control.throttle import client_of
from chappe_kernel.errors import ChappeError


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
        client_of(request),
        source_of(request),
        request.cookies.get(PORTAL_COOKIE),
        request.cookies.get(DEVICE_COOKIES[Realm.PORTAL]),
        language_of(request),
    )
    try:
        secret = await service.sign_in_member(services, asked)
    except ChappeError as error:
        form, status, headers = refused(request, error, {"email": fields["email"]})
        return _sign_in_page(request, services, form, target, status=status, headers=headers)
    response = go_to(target)
    response.set_cookie(session_cookie(PORTAL_COOKIE, secret))
    response.set_cookie(service.device_cookie(services, Realm.PORTAL, fields["email"]))
    return response


@post("/sign-out", status_code=SEE_OTHER)
async def sign_out(request: PageRequest, services: Given) -> Response[Any]:
    """For whoever holds the cookie, signed in or not any more."""
    await service.sign_out_member(services, request.cookies.get(PORTAL_COOKIE), source_of(request))
    response = go_to(PORTAL_SIGN_IN)
    response.set_cookie(ended_cookie(PORTAL_COOKIE))
    return response


def _sign_in_page(request: PageRequest, services: Given, form: Form, target: str, **how: Any) -> Response[Any]:
    return page(
        request,
        "sign_in/sign_in.html",
        realm="portal",
        action=PORTAL_SIGN_IN,
        form=form,
        next=target,
        sign_up_open=is_sign_up_open(services),
        reset_open=services.mail.is_open,
        **how,
    )
