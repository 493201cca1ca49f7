"""What changes something comes from a page of ours; pages have one address; and nobody signed out sees one."""

from typing import Any

import httpx
import pytest

from tests.pages.browser import CSRF_COOKIE, PASSWORD, Visitor
from tests.sign_in.site import OPERATOR, Site, is_signed_in

FOREIGN = "https://evil.example"


async def _sign_out(visitor: Visitor, token: str | None, **headers: str) -> httpx.Response:
    """Signing out, with exactly these headers."""
    data = {} if token is None else {"_csrf_token": token}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await visitor.request("POST", "/sign-out", headers={"accept": "text/html", **named}, data=data)


async def test_our_own_form_is_taken(site: Site) -> None:
    visitor, _ = await site.member()
    token = await visitor.csrf_token()
    assert (await _sign_out(visitor, token, origin=visitor.portal_url)).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="nothing said"),
        pytest.param({"sec_fetch_site": "same-origin"}, id="no origin"),
        pytest.param({"referer": "http://localhost:8400/overview"}, id="only a referer"),
        pytest.param({"origin": "null"}, id="null"),
        pytest.param({"origin": ""}, id="empty"),
        pytest.param({"origin": FOREIGN}, id="foreign"),
        pytest.param({"origin": "http://localhost:8400.evil.example"}, id="longer"),
        pytest.param({"origin": "http://localhost:84000"}, id="another port"),
        pytest.param({"origin": "https://localhost:8400"}, id="another scheme"),
        pytest.param({"origin": "http://127.0.0.1:8400"}, id="another name of ours"),
        pytest.param({"origin": "http://LOCALHOST:8400"}, id="as no browser writes it"),
        pytest.param({"origin": f"http://localhost:8400, {FOREIGN}"}, id="two in one"),
        pytest.param({"origin": "http://localhost:8400", "sec_fetch_site": "cross-site"}, id="contradiction"),
        pytest.param({"origin": "http://localhost:8400", "sec_fetch_site": "same-site"}, id="same site"),
        pytest.param({"origin": "http://localhost:8400", "sec_fetch_site": "none"}, id="none"),
        pytest.param({"origin": "http://localhost:8400", "sec_fetch_site": ""}, id="empty site"),
        pytest.param({"origin": FOREIGN, "host": "evil.example"}, id="host agrees with the origin"),
        pytest.param({"origin": FOREIGN, "x_forwarded_host": "evil.example"}, id="forwarded host agrees"),
    ],
)
async def test_what_another_site_sends_is_refused(site: Site, headers: dict[str, str]) -> None:
    """Even with the token, which another site cannot know."""
    visitor, _ = await site.member()
    answer = await _sign_out(visitor, await visitor.csrf_token(), **headers)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert await is_signed_in(visitor)


async def test_two_origins_are_refused(site: Site) -> None:
    visitor, _ = await site.member()
    token = await visitor.csrf_token()
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    headers = [("host", "localhost:8400"), ("cookie", cookie), ("origin", visitor.portal_url), ("origin", FOREIGN)]
    answer = await site.http.post("/sign-out", headers=headers, data={"_csrf_token": token})
    assert answer.status_code == 403


@pytest.mark.parametrize("token", [None, "", "x", "é" * 65, "0" * 128, "a" * 10_000])
async def test_a_form_without_our_token_is_refused(site: Site, token: str | None) -> None:
    visitor, _ = await site.member()
    answer = await _sign_out(visitor, token, origin=visitor.portal_url)
    assert answer.status_code == 403
    assert await is_signed_in(visitor)


@pytest.mark.parametrize("cookie", [None, "", "x", "\u00e9" * 65, "0" * 128])
async def test_a_token_without_its_cookie_is_refused(site: Site, cookie: str | None) -> None:
    visitor, _ = await site.member()
    token = await visitor.csrf_token()
    kept = {**visitor.cookies, CSRF_COOKIE: cookie} if cookie is not None else dict(visitor.cookies)
    if cookie is None:
        del kept[CSRF_COOKIE]
    line = "; ".join(f"{name}={value}" for name, value in kept.items()).encode("latin-1")
    answer = await visitor.request(
        "POST", "/sign-out", headers={"origin": visitor.portal_url, "cookie": line}, data={"_csrf_token": token}
    )
    assert answer.status_code == 403
    assert await is_signed_in(visitor)


async def test_another_browsers_token_is_refused(site: Site) -> None:
    visitor, _ = await site.member()
    stolen = await site.visitor().csrf_token()
    assert (await _sign_out(visitor, stolen, origin=visitor.portal_url)).status_code == 403


async def test_the_token_in_a_header_counts_too(site: Site) -> None:
    visitor, _ = await site.member()
    answer = await _sign_out(visitor, None, origin=visitor.portal_url, x_csrftoken=await visitor.csrf_token())
    assert answer.status_code == 303


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_every_other_method_is_guarded_or_unknown(site: Site, method: str) -> None:
    visitor, _ = await site.member()
    answer = await visitor.request(method, "/sign-out", headers={"origin": FOREIGN})
    assert answer.status_code in {403, 405}
    assert await is_signed_in(visitor)


async def test_a_token_that_is_not_ours_is_replaced_by_the_next_page(site: Site) -> None:
    """Such as one from before a pepper was rotated: without this no form of that browser would ever work again."""
    visitor, _ = await site.member()
    for foreign in ("0" * 128, "x", "<script>alert(1)</script>"):
        visitor.cookies[CSRF_COOKIE] = foreign
        page = await visitor.get("/sign-up", accept_language="en")
        assert foreign not in page.text
        assert visitor.cookies[CSRF_COOKIE] != foreign
    assert (await visitor.post("/sign-out")).status_code == 303


async def test_the_tokens_cookie_has_exactly_these_attributes(site: Site) -> None:
    answer = await site.visitor().get("/sign-in")
    (line,) = answer.headers.get_list("set-cookie")
    assert sorted(line.lower().split("; ")[1:]) == ["httponly", "path=/", "samesite=lax", "secure"]


@pytest.mark.parametrize("path", ["/healthz", "/schema/openapi.json", "/api/v1/balance"])
async def test_what_is_no_page_sets_no_cookie_and_stays_under_every_name(site: Site, path: str) -> None:
    answer = await site.http.get(path, headers={"host": "anything.example"})
    assert not answer.is_redirect
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8400", "evil.example", "localhost", "localhost:84", "localhost:8400.evil.example", "[::1]:8400"]
)
async def test_a_page_under_another_name_is_at_the_settings_address(site: Site, host: str) -> None:
    answer = await site.http.get("/sign-in?next=%2Fkeys&a=b", headers={"host": host}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (
        307,
        f"{site.settings.portal_url}/sign-in?next=%2Fkeys&a=b",
    )
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-host": "evil.example"},
        {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https", "x-forwarded-port": "443"},
        {"forwarded": "host=evil.example;proto=https"},
        {"x-original-url": "/console/tenants", "x-rewrite-url": "/console/tenants"},
        {"x-http-method-override": "POST"},
    ],
)
async def test_headers_of_proxies_are_not_believed(site: Site, headers: dict[str, str]) -> None:
    visitor, _ = await site.member()
    answer = await visitor.request("GET", "/sign-up", headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, "/overview")
    answer = await site.http.get("/sign-in", headers={"host": "x.example", **headers}, follow_redirects=False)
    assert answer.headers["location"] == f"{site.settings.portal_url}/sign-in"


@pytest.mark.parametrize("path", ["//evil.example", "/%2f%2fevil.example", "/sign-in//evil.example", "/\\evil.example"])
async def test_no_path_turns_the_redirect_to_another_host(site: Site, path: str) -> None:
    url = site.http.base_url.copy_with(raw_path=path.encode())
    answer = await site.http.get(url, headers={"host": "x.example"}, follow_redirects=False)
    location = answer.headers.get("location", site.settings.portal_url + "/")
    assert location.startswith(site.settings.portal_url + "/")


async def test_upper_case_is_the_same_host(site: Site) -> None:
    answer = await site.http.get("/sign-in", headers={"host": "LocalHost:8400"})
    assert answer.status_code == 200


GUARDED = ["/console/gallery", "/console/tenants", "/overview", "/requests"]


@pytest.mark.parametrize("path", GUARDED)
async def test_signed_out_pages_lead_to_the_sign_in_and_back(site: Site, path: str) -> None:
    sign_in = "/console/sign-in" if path.startswith("/console") else "/sign-in"
    visitor = site.visitor()
    answer = await visitor.get(f"{path}?a=b%20c&d=é".encode().decode("latin-1"))
    assert answer.status_code == 303
    location = httpx.URL(answer.headers["location"])
    assert (location.path, location.host) == (sign_in, "")
    assert location.params["next"].startswith(f"{path}?a=b%20c&d=")
    answer = await visitor.live(f"{path}/live", page=f"{path}?cursor=x")
    assert (answer.status_code, answer.text) == (204, "")
    assert answer.headers["hx-redirect"] == f"{sign_in}?next={path}%3Fcursor%3Dx"


@pytest.mark.parametrize(
    "current", ["https://evil.example//evil.example/x", "//evil.example", "http://[", "/\\evil", "x" * 5000]
)
async def test_a_page_that_htmx_claims_is_believed_as_a_path_only(site: Site, current: str) -> None:
    answer = await site.visitor().get("/console/gallery/live", hx_request="true", hx_current_url=current)
    target = httpx.URL(answer.headers["hx-redirect"])
    assert target.host == ""
    assert target.params.get("next", "/").startswith("/") and not target.params.get("next", "/").startswith("//")


@pytest.mark.parametrize(
    "cookie", ["", "x", "A" * 43, "A" * 44, "é" * 43, "A" * 5000, "'; DROP TABLE member_session; --"]
)
async def test_a_cookie_that_is_no_session_opens_nothing(site: Site, cookie: str) -> None:
    for name, page in (("__Host-chappe", "/sign-in"), ("__Host-chappe-console", "/console/sign-in")):
        headers: dict[str, Any] = {"cookie": f"{name}={cookie}".encode()}
        answer = await site.visitor().request("GET", page, headers=headers)
        assert answer.status_code == 200


async def test_an_operators_page_opens_for_operators_only(site: Site) -> None:
    member, _ = await site.member()
    assert (await member.get("/console/tenants")).status_code == 303
    operator = site.visitor()
    await operator.console_sign_in(OPERATOR, PASSWORD)
    assert (await operator.get("/console/tenants")).status_code == 200
