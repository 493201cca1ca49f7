"""Choosing a new password: by a link in a letter, for whoever reads the account's mail."""

from typing import Any

from litestar import Response, get, post

from chappe_control.mail_links.service import OpenedLink, Purpose
from chappe_control.origins import source_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.guards import PORTAL_SIGN_IN
from chappe_control.pages.languages import language_of, translate
from chappe_control.pages.render import page
from chappe_control.sign_in import links
from chappe_control.sign_in.forms import (
    GONE,
    SEE_OTHER,
    UNPROCESSABLE,
    PageRequest,
    go_to,
    password_errors,
    personal_words,
    read_cleaned,
    refused,
)
from chappe_control.sign_in.links import FORGOTTEN, RESET_LINK
from chappe_control.state import Given
from chappe_control.throttle import client_of
from chappe_kernel.errors import ChappeError, NotFound


@get(FORGOTTEN)
async def show_forgot_password(request: PageRequest, services: Given) -> Response[Any]:
    return _forgot_page(request, services, Form())


@post(FORGOTTEN, status_code=200)
async def forgot_password(request: PageRequest, services: Given) -> Response[Any]:
    """The same answer, whoever has an account."""
    if not services.mail.is_open:
        return _forgot_page(request, services, Form(), status=403)
    fields = await read_fields(request, "email")
    clean, errors = read_cleaned(request, fields, "email")
    if errors:
        return _forgot_page(request, services, Form(fields, errors), status=UNPROCESSABLE)
    asked = links.LinkAsked(clean["email"], language_of(request), client_of(request))
    try:
        await links.ask_for_password_reset(services, asked)
    except ChappeError as error:
        form, status, headers = refused(request, error, fields)
        return _forgot_page(request, services, form, status=status, headers=headers)
    return page(request, "sign_in/link_sent.html", purpose=Purpose.RESET, email=clean["email"])


@get(RESET_LINK)
async def show_reset_link(request: PageRequest, services: Given) -> Response[Any]:
    """Looking is free: programs that scan mail look at every link."""
    secret = request.query_params.get("link", "")
    try:
        link = await links.look_at(services, Purpose.RESET, secret)
    except NotFound:
        return _link_over(request)
    return _reset_page(request, link, secret, Form())


@post(RESET_LINK, status_code=SEE_OTHER)
async def reset_password(request: PageRequest, services: Given) -> Response[Any]:
    """Leads to the sign-in, for which the new password is good: whether the account may enter is decided there."""
    fields = await read_fields(request, "link", "password")
    secret, password = fields["link"], fields["password"]
    try:
        link = await links.look_at(services, Purpose.RESET, secret)
    except NotFound:
        return _link_over(request)
    errors = password_errors(request, password, personal_words(link.email))
    if errors:
        return _reset_page(request, link, secret, Form({}, errors), status=UNPROCESSABLE)
    try:
        await links.finish_password_reset(
            services, secret, password, language=language_of(request), source=source_of(request)
        )
    except NotFound:
        return _link_over(request)
    except ChappeError as error:
        form, status, headers = refused(request, error, {})
        return _reset_page(request, link, secret, form, status=status, headers=headers)
    response = go_to(PORTAL_SIGN_IN)
    flash(response, translate(request, "Your password is changed. Sign in with it."))
    return response


def _forgot_page(request: PageRequest, services: Given, form: Form, **how: Any) -> Response[Any]:
    return page(request, "sign_in/forgot_password.html", form=form, open=services.mail.is_open, **how)


def _reset_page(request: PageRequest, link: OpenedLink, secret: str, form: Form, **how: Any) -> Response[Any]:
    return page(request, "sign_in/reset_password.html", form=form, opened=link, secret=secret, **how)


def _link_over(request: PageRequest) -> Response[Any]:
    return page(request, "sign_in/link_over.html", purpose=Purpose.RESET, status=GONE)
