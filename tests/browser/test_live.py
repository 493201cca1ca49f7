"""What happens elsewhere is on an open page within five seconds, and nobody reloads it."""

from playwright.async_api import Browser, expect

from tests.browser.look import Look
from tests.browser.screens import Account, sign_in
from tests.browser.visitor import visit
from tests.instance import Instance

_MOST_MS = 5_000
_MARK = "() => { window.wasHereBefore = true; }"
_IS_MARKED = "() => window.wasHereBefore === true"


async def test_overview_shows_a_request_of_a_program(browser: Browser, instance: Instance) -> None:
    async with visit(browser, instance.portal_url, [], Look()) as visitor:
        await visitor.open("/sign-in")
        await sign_in(visitor, Account(**instance.run["demo"]["member"]), then="/overview")
        await visitor.page.evaluate(_MARK)
        before = await visitor.page.locator("#available").inner_text()
        request_id = call(instance, "de-fra")
        row = visitor.page.locator(
            "#latest-table tbody tr", has=visitor.page.locator(f"[href='/requests/{request_id}']")
        )
        await expect(row).to_be_visible(timeout=_MOST_MS)
        await expect(row).to_contain_text("de-fra")
        await expect(visitor.page.locator("#available")).not_to_have_text(before, timeout=_MOST_MS)
        assert await visitor.page.evaluate(_IS_MARKED)


async def test_console_shows_a_request_of_a_tenant(browser: Browser, instance: Instance) -> None:
    async with visit(browser, instance.portal_url, [], Look()) as visitor:
        await visitor.open("/console/sign-in")
        await sign_in(visitor, Account(**instance.run["demo"]["operator"]), then="/console/regions")
        await visitor.page.evaluate(_MARK)
        requests, revenue = visitor.page.locator("#stat-requests"), visitor.page.locator("#stat-revenue")
        seen = await requests.inner_text(), await revenue.inner_text()
        call(instance, "fr-par")
        await expect(requests).not_to_have_text(seen[0], timeout=_MOST_MS)
        await expect(revenue).not_to_have_text(seen[1], timeout=_MOST_MS)
        assert await visitor.page.evaluate(_IS_MARKED)


def call(instance: Instance, region: str) -> str:
    """The id of a request that a program made just now."""
    answer = instance.openai(region).chat.completions.with_raw_response.create(
        model=instance.chat_model, messages=[{"role": "user", "content": "Say hello."}], max_tokens=4
    )
    return str(answer.headers["x-request-id"])
