"""From a template and values to an answer: in the visitor's language and theme, with every page's headers."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import brotli
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response
from litestar.template.base import csrf_token
from markupsafe import Markup

from chappe_control.pages.assets import Assets, choose_coding
from chappe_control.pages.flash import forget_flash, read_flash
from chappe_control.pages.formats import make_filters
from chappe_control.pages.forms import Form
from chappe_control.pages.languages import LANGUAGES, LOCALES, gettext_of, language_of
from chappe_control.pages.organisation_texts import Notice, state_notice
from chappe_control.pages.security import page_headers
from chappe_control.pages.theme import THEMES, theme_of
from chappe_control.permissions import Permission, is_open, may
from chappe_kernel.clock import Clock
from chappe_kernel.ids import encode_id
from chappe_tenants.sessions.service import MemberVisitor, OperatorVisitor

TEMPLATE_FOLDER = Path(__file__).resolve().parents[1] / "templates"
HTML = "text/html"
# A page is compressed for one visitor: level 4 takes a millisecond for what level 11 takes thirty.
_BROTLI_QUALITY = 4
_LIVE_SUFFIX = "/live"


@dataclass(frozen=True)
class Pages:
    """What rendering needs for as long as the application runs: one environment per language, and the assets."""

    environments: Mapping[str, Environment]
    assets: Assets


def make_pages(assets: Assets, clock: Clock) -> Pages:
    return Pages({language: _make_environment(language, assets, clock.now) for language in LANGUAGES}, assets)


def page(
    request: Request[Any, Any, Any],
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    connect_to: Sequence[str] = (),
    **values: Any,
) -> Response[bytes]:
    """A whole page. `connect_to` are the gateways' origins that its scripts may call, and no other page's may."""
    waiting = read_flash(request)
    values = {"flash": waiting, **values}
    response = _respond(request, template, values, status=status, headers=headers, connect_to=connect_to)
    if waiting is not None:
        forget_flash(response)
    return response


def fragment(
    request: Request[Any, Any, Any],
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response[bytes]:
    """A part of a page, for htmx to put into it. It leaves a waiting message for the next whole page."""
    return _respond(request, template, values, status=status, headers=headers)


def _respond(
    request: Request[Any, Any, Any],
    template: str,
    values: dict[str, Any],
    *,
    status: int,
    headers: Mapping[str, str] | None,
    connect_to: Sequence[str] = (),
) -> Response[bytes]:
    pages: Pages = request.app.state["pages"]
    language = language_of(request)
    text = (
        pages.environments[language]
        .get_template(template)
        .render(**_context(request, language), gateways=list(connect_to), **values)
    )
    body, coding = _compress(text.encode(), request.headers.get("accept-encoding", ""))
    settings = request.app.state["services"].settings
    all_headers = page_headers(settings.portal_url, connect_to) | {"vary": "accept-encoding, accept-language, cookie"}
    all_headers |= {"content-language": language, **(headers or {})}
    if coding != "identity":
        all_headers["content-encoding"] = coding
    return Response(body, status_code=status, media_type=HTML, headers=all_headers)


def _context(request: Request[Any, Any, Any], language: str) -> dict[str, Any]:
    return {
        "request": request,
        "language": language,
        "locale": LOCALES[language],
        "languages": LANGUAGES,
        "theme": theme_of(request),
        "themes": THEMES,
        "path": request.url.path,
        "query": dict(request.query_params),
        "csrf_token": csrf_token({"request": request}),
        "visitor": request.scope.get("auth"),
        "may": _make_may(request.scope.get("auth")),
        "state_notice": _state_notice,
        "link": _make_link(request),
    }


def _make_may(visitor: Any) -> Callable[[str], bool]:
    """`may("manage keys")`: whether to show what takes this permission. The route decides again whether to do it."""

    def may_visitor(permission: str) -> bool:
        wanted = Permission(permission)
        if isinstance(visitor, MemberVisitor):
            return may(visitor.role, wanted) and is_open(visitor.tenant_state, wanted)
        return isinstance(visitor, OperatorVisitor) and may(visitor.role, wanted)

    return may_visitor


def _state_notice(visitor: Any) -> Notice | None:
    return state_notice(visitor.tenant_state) if isinstance(visitor, MemberVisitor) else None


def _make_link(request: Request[Any, Any, Any]) -> Callable[..., str]:
    """`link(sort="name", cursor=None)`: this page's address with some of its query changed; None leaves one out.

    In a live fragment it is the address of the page that the fragment belongs to.
    """
    path = request.url.path.removesuffix(_LIVE_SUFFIX) or "/"
    query = {name: value for name, value in request.query_params.items() if isinstance(value, str)}

    def link(**changes: str | None) -> str:
        merged = {name: value for name, value in {**query, **changes}.items() if value is not None}
        return f"{path}?{urlencode(merged)}" if merged else path

    return link


def _compress(body: bytes, accept_encoding: str) -> tuple[bytes, str]:
    """Brotli or nothing: every browser that can show these pages takes it."""
    if choose_coding(accept_encoding, {"br": b""}) == "identity":
        return body, "identity"
    return brotli.compress(body, mode=brotli.MODE_TEXT, quality=_BROTLI_QUALITY), "br"


def _make_environment(language: str, assets: Assets, now: Callable[[], datetime]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.newstyle_gettext = True  # type: ignore[attr-defined]  # the extension's: texts are formatted by us
    environment.globals.update(_make_texts(language))
    environment.filters.update(make_filters(LOCALES[language], now))
    environment.globals.update(assets=assets, icon=_icon, _icon=_icon, Form=Form, ui_column=ui_column)
    environment.filters["fingerprint"] = _fingerprint
    environment.filters["public_id"] = _public_id
    return environment


def _make_texts(language: str) -> dict[str, Callable[..., Markup]]:
    """`gettext`, `_` and `ngettext` as the extension's own, for templates that always escape. Its own build a context
    for each text inside a loop, which takes half of a table's time."""
    find, find_plural = gettext_of(language)

    def gettext(text: str, /, **values: object) -> Markup:
        return Markup(find(text)) % values  # noqa: S704 -- our own text, and what is put into it is escaped

    def ngettext(one: str, many: str, count: int, /, **values: object) -> Markup:
        return Markup(find_plural(one, many, count)) % {"num": count, **values}  # noqa: S704 -- as above

    return {"gettext": gettext, "_": gettext, "ngettext": ngettext}


def ui_column(key: str, label: str, *, numeric: bool = False, sortable: bool = False) -> dict[str, Any]:
    """A column of `ui.table`: `key` is what `?sort=` says, `label` is in the visitor's language."""
    return {"key": key, "label": label, "numeric": numeric, "sortable": sortable}


def _public_id(value: UUID, prefix: str) -> str:
    """`request_id | public_id("req")`: an id as people and programs see it."""
    return encode_id(prefix, value)


def _fingerprint(text: str) -> str:
    """A short name for a text, the same each time, so that what refers to it stays right over a live swap."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _icon(name: str) -> Markup:
    """One of Tabler's icons, for the eye only: what it means is said in words beside it."""
    svg = (TEMPLATE_FOLDER / "icons" / f"{name}.svg").read_text().strip()
    return Markup(svg.replace("<svg ", '<svg class="icon" aria-hidden="true" focusable="false" ', 1))  # noqa: S704 -- our own file
