"""Every page carries every header, whoever wrote its route."""

import re

import pytest

from chappe_control.app import create_app
from chappe_control.pages.canonical import is_page
from chappe_control.pages.security import content_policy, page_headers
from tests.pages.browser import PORTAL_URL, Visitor
from tests.pages.small_site import GATEWAY, open_site
from tests.sign_in.site import Site

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'; "
    "report-uri /csp-report"
)
ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
INLINE = re.compile(r"<[^>]+\s(style|on\w+|hx-on[\w:-]*)=|<style|<script(?![^>]*\ssrc=)|javascript:", re.IGNORECASE)
# What a path parameter is replaced by; the answer may be a 404, which is a page too.
NO_ID = "req_01k00000000000000000000000"


def _page_paths(site: Site) -> list[str]:
    found = set()
    for route in create_app(site.settings).routes:
        if "GET" in getattr(route, "methods", ()):
            path = re.sub(r"\{[^}]+\}", NO_ID, route.path)
            if is_page({"type": "http", "path": path}):  # type: ignore[arg-type]  # all that it reads
                found.add(path)
    return sorted(found)


def test_policy_is_exactly_this() -> None:
    assert content_policy() == POLICY
    assert f"connect-src 'self' {GATEWAY};" in content_policy([GATEWAY])


def test_hsts_only_where_the_portal_has_https() -> None:
    assert "strict-transport-security" in page_headers("https://portal.example")
    assert "strict-transport-security" not in page_headers("http://localhost:8400")


async def test_only_pages_that_ask_may_connect_to_gateways(visitor: Visitor) -> None:
    assert GATEWAY in (await visitor.get("/show")).headers["content-security-policy"]
    assert (await visitor.get("/nowhere")).headers["content-security-policy"] == POLICY


async def test_page_depends_on_what_chose_its_language_and_coding(visitor: Visitor) -> None:
    answer = await visitor.get("/show")
    assert set(answer.headers["vary"].split(", ")) == {"accept-encoding", "accept-language", "cookie"}
    assert answer.headers["content-language"] == "en"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


async def test_hsts_is_sent_by_a_portal_with_https() -> None:
    async with open_site("https://portal.example") as visitor:
        assert "strict-transport-security" in (await visitor.get("/show")).headers


@pytest.mark.parametrize("who", ["nobody", "member", "operator"])
async def test_every_page_has_every_header_and_nothing_inline(site: Site, administrator: Visitor, who: str) -> None:
    visitor = administrator if who == "operator" else site.visitor()
    if who == "member":
        await visitor.sign_up()
    paths = [path for path in _page_paths(site) if "sign-out" not in path]
    assert len(paths) > 12
    shown = 0
    for path in paths:
        answer = await visitor.get(path)
        assert answer.status_code in {200, 303, 400, 403, 404, 410}, f"{path}: {answer.status_code}"
        assert answer.headers["x-content-type-options"] == "nosniff"
        if not answer.headers.get("content-type", "").startswith("text/html"):
            # A redirect, or data for a page's script: nothing that a browser would render.
            assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            continue
        shown += 1
        for name, value in ALWAYS.items():
            assert answer.headers[name] == value, f"{path}: {name}"
        policy = answer.headers["content-security-policy"]
        assert re.sub(r"(connect-src 'self')( https?://[\w.:-]+)*;", r"\1;", policy) == POLICY, path
        found = INLINE.search(answer.text)
        assert found is None, f"{path}: {found}"
    assert shown >= (3 if who == "nobody" else 5)


async def test_api_keeps_its_own_stricter_policy(site: Site) -> None:
    answer = await site.http.get("/api/v1/balance")
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_site_is_served_under_its_own_name(site: Site) -> None:
    assert site.settings.portal_url == PORTAL_URL
