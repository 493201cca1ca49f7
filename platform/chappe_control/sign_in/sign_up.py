"""Signing up: an address and a name first, then the link in a letter, and only behind it a password and an account.

The password comes last on purpose. Whoever types somebody else's address must not be the one who knows the password of
the account that its reader then confirms.
"""

from typing import Any

from litestar import Response, get, post

from chappe_control.mail_links.service import OpenedLink, Purpose
from chappe_control.origins import source_of
from chappe_control.pages.cookies import PORTAL_COOKIE, session_cookie
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.guards import read_member
from chappe_control.pages.languages import language_of
from chappe_control.pages.render import page
from chappe_control.sign_in import links, service
from chappe_control.sign_in.attempts import Realm
from chappe_control.sign_in.forms import (
    GONE,
    SEE_OTHER,
    UNPROCESSABLE,
    PageRequest,
    go_to,
    is_sign_up_open,
    password_errors,
    personal_words,
    portal_target,
    read_cleaned,
    refused,
)
from chappe_control.sign_in.links import SIGN_UP_LINK
from chappe_control.state import Given
from chappe_control.throttle import client_of
from chappe_kernel.errors import ChappeError, NotFound

SIGN_UP = "/sign-up"
_WELCOME = "/keys?welcome=1"


@get(SIGN_UP)
async def show_sign_up(request: PageRequest, services: Given) -> Response[Any]:
    if await read_member(request) is not None:
        return go_to(portal_target(None))
    return _sign_up_page(request, services, Form())


@post(SIGN_UP, status_code=200)
async def sign_up(request: PageRequest, services: Given) -> Response[Any]:
    """The same answer, whoever has an account. Reads two fields and no other: what else a form carries (a role, a
    credit) has no effect."""
    if not is_sign_up_open(services):
        return _sign_up_page(request, services, Form(), status=403)
    fields = await read_fields(request, "organisation", "email")
    clean, errors = read_cleaned(request, fields, "organisation", "email")
    if errors:
        return _sign_up_page(request, services, Form(fields, errors), status=UNPROCESSABLE)
    asked = links.LinkAsked(clean["email"], language_of(request), client_of(request))
    try:
        await links.ask_for_sign_up(services, asked, clean["organisation"])
    except ChappeError as error:
        form, status, headers = refused(request, error, fields)
        return _sign_up_page(request, services, form, status=status, headers=headers)
    return page(request, "sign_in/link_sent.html", purpose=Purpose.SIGN_UP, email=clean["email"])


@get(SIGN_UP_LINK)
async def show_sign_up_link(request: PageRequest, services: Given) -> Response[Any]:
    """Looking is free: programs that scan mail look at every link."""
    secret = request.query_params.get("link", "")
    try:
        link = await links.look_at(services, Purpose.SIGN_UP, secret)
    except NotFound:
        return _link_over(request)
    return _finish_page(request, link, secret, Form())


@post(SIGN_UP_LINK, status_code=SEE_OTHER)
async def finish_sign_up(request: PageRequest, services: Given) -> Response[Any]:
    fields = await read_fields(request, "link", "password")
    secret, password = fields["link"], fields["password"]
    try:
        link = await links.look_at(services, Purpose.SIGN_UP, secret)
    except NotFound:
        return _link_over(request)
    errors = password_errors(request, password, personal_words(link.email, link.organisation))
    if errors:
        return _finish_page(request, link, secret, Form({}, errors), status=UNPROCESSABLE)
    try:
        opened = await links.finish_sign_up(services, secret, password, source_of(request))
    except NotFound:
        return _link_over(request)
    except ChappeError as error:
        form, status, headers = refused(request, error, {})
        return _finish_page(request, link, secret, form, status=status, headers=headers)
    await service.sign_out_member(services, request.cookies.get(PORTAL_COOKIE), source_of(request))
    response = go_to(_WELCOME)
    response.set_cookie(session_cookie(PORTAL_COOKIE, opened))
    response.set_cookie(service.device_cookie(services, Realm.PORTAL, link.email))
    return response


def _sign_up_page(request: PageRequest, services: Given, form: Form, **how: Any) -> Response[Any]:
    return page(request, "sign_in/sign_up.html", form=form, open=is_sign_up_open(services), **how)


def _finish_page(request: PageRequest, link: OpenedLink, secret: str, form: Form, **how: Any) -> Response[Any]:
    return page(request, "sign_in/finish_sign_up.html", form=form, opened=link, secret=secret, **how)


def _link_over(request: PageRequest) -> Response[Any]:
    return page(request, "sign_in/link_over.html", purpose=Purpose.SIGN_UP, status=GONE)
