"""Nothing is believed that a proxy might have said, and a cookie is never markup (Litestar CVE-2025-59152,
CVE-2026-48061, CVE-2026-48060)."""

from importlib.metadata import version

from tests.access.world import AccessWorld, Caller, unlike
from tests.pages.browser import CSRF_COOKIE, Visitor

CLAIMED = "203.0.113.7"
CLAIMS = {
    "x-forwarded-for": CLAIMED,
    "x-real-ip": CLAIMED,
    "forwarded": f"for={CLAIMED}",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "https",
}


def test_the_framework_is_one_with_the_fixes() -> None:
    assert tuple(int(part) for part in version("litestar").split(".")[:2]) >= (2, 22)


async def test_the_audit_log_has_the_sockets_address_and_no_claimed_one(access: AccessWorld) -> None:
    claims = {name.replace("-", "_"): value for name, value in CLAIMS.items()}
    name = unlike("project")
    made = await access.call(Caller.MANAGEMENT_KEY, "POST", "/api/v1/projects", {"name": name}, **claims)
    assert made.status_code == 201
    newest = (await access.call(Caller.MANAGEMENT_KEY, "GET", "/api/v1/audit?limit=1")).json()["items"][0]
    assert (newest["subject"], newest["actor"]["address"]) == (made.json()["id"], "127.0.0.1")


async def test_no_page_repeats_a_claimed_host(access: AccessWorld) -> None:
    visitor = Visitor(access.http, access.control.settings.portal_url)
    for path in ("/sign-in", "/sign-up", "/nothing", "/overview"):
        answer = await visitor.request("GET", path, headers={"accept": "text/html", **CLAIMS})
        assert "evil.example" not in answer.text + str(answer.headers)


async def test_a_script_in_the_tokens_cookie_is_on_no_page(access: AccessWorld) -> None:
    visitor = Visitor(access.http, access.control.settings.portal_url)
    for planted in ('"><script>alert(1)</script>', "</script><script>alert(1)</script>", "javascript:alert(1)"):
        for path in ("/sign-in", "/sign-up", "/console/sign-in", "/nothing"):
            visitor.cookies[CSRF_COOKIE] = planted
            assert planted not in (await visitor.get(path)).text
