"""The operator's people: signing in to the console, and out."""

from typing import Any

from litestar import Response, get, post

from chappe_control.origins import source_of
from chappe_control.pages.cookies import CONSOLE_COOKIE, ended_cookie, session_cookie
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.guards import CONSOLE_SIGN_IN, read_operator
from chappe_control.pages.render import page
from chappe_control.sign_in import service
from chappe_control.sign_in.attempts import Realm
from chappe_control.sign_in.devices import DEVICE_COOKIES
from chappe_control.sign_in.forms import SEE_OTHER, PageRequest, console_target, go_to, refused
from chappe_control.state import Given
from chappe_control.throttle import client_of
from chappe_kernel.errors import ChappeError


@get(CONSOLE_SIGN_IN)
async def show_console_sign_in(request: PageRequest) -> Response[Any]:
    target = console_target(request.query_params.get("next"))
    if await read_operator(request) is not None:
        return go_to(target)
    return _page(request, Form(), target)


@post(CONSOLE_SIGN_IN, status_code=SEE_OTHER)
async def sign_in_to_console(request: PageRequest, services: Given) -> Response[Any]:
    fields = await read_fields(request, "email", "password", "next")
    target = console_target(fields["next"])
    asked = service.SignIn(
        fields["email"],
        fields["password"],
        client_of(request),
        source_of(request),
        request.cookies.get(CONSOLE_COOKIE),
        request.cookies.get(DEVICE_COOKIES[Realm.CONSOLE]),
    )
    try:
        secret = await service.sign_in_operator(services, asked)
    except ChappeError as error:
        form, status, headers = refused(request, error, {"email": fields["email"]})
        return _page(request, form, target, status=status, headers=headers)
    response = go_to(target)
    response.set_cookie(session_cookie(CONSOLE_COOKIE, secret))
    response.set_cookie(service.device_cookie(services, Realm.CONSOLE, fields["email"]))
    return response


@post("/console/sign-out", status_code=SEE_OTHER)
async def sign_out_of_console(request: PageRequest, services: Given) -> Response[Any]:
    await service.sign_out_operator(services, request.cookies.get(CONSOLE_COOKIE), source_of(request))
    response = go_to(CONSOLE_SIGN_IN)
    response.set_cookie(ended_cookie(CONSOLE_COOKIE))
    return response


def _page(request: PageRequest, form: Form, target: str, **how: Any) -> Response[Any]:
    return page(
        request,
        "sign_in/sign_in.html",
        realm="console",
        action=CONSOLE_SIGN_IN,
        form=form,
        next=target,
        sign_up_open=False,
        reset_open=False,
        **how,
    )
