"""Every page is light at its first load: at most 150 KB over the wire, with charts, fonts and styles."""

import pytest
from playwright.async_api import Browser

from tests.browser.look import Look
from tests.browser.screens import Account, sign_in
from tests.browser.visitor import visit
from tests.browser.weight import MOST_BYTES, first_load_bytes
from tests.instance import Instance

SIGNED_OUT = ["/sign-up", "/sign-in", "/forgot-password", "/console/sign-in", "/nothing-here"]
PORTAL = [
    *("/overview", "/requests", "/exports", "/projects", "/keys", "/keys?new=1", "/playground"),
    *("/members", "/members?new=1", "/quotas", "/quotas?new=1", "/organisation", "/organisation?edit=1"),
    *("/customers", "/invoices", "/billing-details"),
]
CONSOLE = [
    *(
        f"/console/{page}"
        for page in ("regions", "deployments", "tenants", "revenue", "invoices", "disputes", "tax", "gallery")
    ),
    *(f"/console/{page}" for page in ("tenants/new", "prices", "prices/history", "prices/drafts", "prices/drafts/new")),
]


@pytest.mark.parametrize(
    ("area", "paths"),
    [(None, SIGNED_OUT), ("member", PORTAL), ("operator", CONSOLE)],
    ids=["signed out", "portal", "console"],
)
async def test_first_load_is_at_most_150_kb(
    browser: Browser, instance: Instance, area: str | None, paths: list[str]
) -> None:
    async with visit(browser, instance.portal_url, [], Look()) as visitor:
        visitor.guard.expect(404, "/nothing-here")
        if area is not None:
            await visitor.open("/sign-in" if area == "member" else "/console/sign-in")
            first = PORTAL[0] if area == "member" else CONSOLE[0]
            await sign_in(visitor, Account(**instance.run["demo"][area]), then=first)
        for path in paths:
            sizes = await first_load_bytes(visitor.page, visitor.url + path)
            assert sum(sizes.values()) <= MOST_BYTES, f"{path}: {sizes.most_common()}"
            assert any(name.endswith(".css") for name in sizes), f"{path}: the cache was not empty: {sizes}"
