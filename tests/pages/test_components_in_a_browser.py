"""What the scripts add: each component in Chromium, by keyboard where there is a choice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.browser.look import NARROW_PX, Look
from tests.browser.visitor import Visitor, visit
from tests.pages.small_site import serve_site

WIDE, PHONE = Look(), Look(width_px=NARROW_PX)
INK = """() => {
    const canvas = document.querySelector("#chart-bars canvas");
    const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
    const context = copy.getContext("2d", { willReadFrequently: true });
    context.drawImage(canvas, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const colours = new Set();
    for (let at = 0; at < pixels.length; at += 4) {
        if (pixels[at + 3] === 255) colours.add(pixels.slice(at, at + 3).join());
    }
    return [...colours];
}"""

CHOOSE_THEME = "(theme) => document.querySelector(`button[name=theme][value=${theme}]`).click()"


@pytest.fixture(scope="module")
async def url() -> AsyncIterator[str]:
    async with serve_site() as opened:
        yield opened


@asynccontextmanager
async def _gallery(browser: Browser, url: str, look: Look = WIDE) -> AsyncIterator[Visitor]:
    async with visit(browser, url, [], look) as visitor:
        await visitor.open("/show")
        yield visitor


async def _ink_with(page: Page, colour: str) -> set[str]:
    """The chart's colours, once this one is among them. Playwright's own waiting would evaluate text on the page."""
    while colour not in (found := set(await page.evaluate(INK))):
        await page.wait_for_timeout(50)
    return found


async def test_tabs_are_one_stop_and_arrows_move_among_them(browser: Browser, url: str) -> None:
    async with _gallery(browser, url) as visitor:
        first, second = visitor.page.get_by_role("tab", name="curl"), visitor.page.get_by_role("tab", name="Python")
        panel = visitor.page.locator("#gallery-tabs-panel-2")
        await expect(panel).to_be_hidden()
        await first.focus()
        await visitor.page.keyboard.press("ArrowRight")
        await expect(second).to_be_focused()
        await expect(second).to_have_attribute("aria-selected", "true")
        await expect(first).to_have_attribute("tabindex", "-1")
        await expect(panel).to_be_visible()
        await visitor.page.keyboard.press("ArrowRight")
        await expect(first).to_be_focused()
        await visitor.page.keyboard.press("End")
        await expect(second).to_be_focused()
        await visitor.page.keyboard.press("Tab")
        await expect(panel.get_by_role("button")).to_be_focused()


async def test_dialog_takes_the_focus_and_gives_it_back(browser: Browser, url: str) -> None:
    async with _gallery(browser, url) as visitor:
        opener = visitor.page.locator("[data-opens=gallery-confirm]").first
        dialog = visitor.page.get_by_role("dialog", name="Revoke the key “Production”?")
        for leave in ("Escape", "Enter"):
            await opener.focus()
            await visitor.page.keyboard.press("Enter")
            await expect(dialog).to_be_visible()
            await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
            await visitor.page.keyboard.press(leave)
            await expect(dialog).to_be_hidden()
            await expect(opener).to_be_focused()
        await opener.click()
        await visitor.page.mouse.click(5, 5)
        await expect(dialog).to_be_hidden()


async def test_copy_button_copies_and_says_so(browser: Browser, url: str) -> None:
    async with _gallery(browser, url) as visitor:
        await visitor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        button = visitor.page.get_by_role("button", name="Copy: API key")
        await button.focus()
        await visitor.page.keyboard.press("Enter")
        await expect(button.get_by_role("status")).to_have_text("Copied")
        copied = await visitor.page.evaluate("navigator.clipboard.readText()")
        assert copied == "ck_i7Gq2mXv0aLrT5cYbN8dPzKw1uEh4sJf"


async def test_live_region_changes_what_changed_and_nothing_else(browser: Browser, url: str) -> None:
    async with _gallery(browser, url) as visitor:
        page = visitor.page
        await page.locator("#chart-bars summary").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#chart-bars canvas")).to_be_visible()
        canvas = await page.locator("#chart-area canvas").element_handle()
        before = await page.evaluate(INK)
        async with page.expect_response("**/show/live"):
            pass
        await expect(page.locator("#chart-bars tbody tr")).to_have_count(4)
        await expect(page.locator("#chart-bars details")).to_have_attribute("open", "")
        await expect(page.locator("#chart-bars summary")).to_be_focused()
        assert canvas is not None
        assert await canvas.evaluate("(element) => element.isConnected"), "an unchanged chart was drawn again"
        assert len(before) > 2
        await expect(page.locator("#live-note")).to_have_text("Live")


async def test_live_updates_can_be_paused_and_say_when_they_fail(browser: Browser, url: str) -> None:
    async with _gallery(browser, url) as visitor:
        page, note = visitor.page, visitor.page.locator("#live-note")
        calls = 0

        async def fail(route: Route) -> None:
            nonlocal calls
            calls += 1
            await route.abort("connectionrefused")

        await note.focus()
        await page.keyboard.press("Enter")
        await expect(note).to_have_text("Paused")
        await expect(note).to_have_attribute("aria-pressed", "true")
        await page.route("**/show/live", fail)
        await page.wait_for_timeout(3500)
        assert calls == 0
        await page.keyboard.press("Enter")
        await expect(note).to_have_text("Disconnected", timeout=20_000)
        await page.unroute("**/show/live")
        await expect(note).to_have_text("Live", timeout=20_000)
        visitor.guard.problems.clear()  # the refused calls, which were the point


async def test_nothing_moves_under_an_open_dialog(browser: Browser, url: str) -> None:
    async with _gallery(browser, url) as visitor:
        page = visitor.page
        await page.evaluate("""() => {
            const dialog = document.getElementById("gallery-confirm");
            document.querySelector("[data-live]").append(dialog);
            dialog.showModal();
        }""")
        # By the page's scripts: the browser itself may still want the page's icon.
        asked: list[str] = []
        by_script = ("fetch", "xhr")
        page.on("request", lambda request: asked.extend([request.url] if request.resource_type in by_script else []))
        await page.wait_for_timeout(4000)
        assert asked == []
        await page.keyboard.press("Escape")
        async with page.expect_response("**/show/live"):
            pass
        assert asked


async def test_charts_load_only_where_there_is_one(browser: Browser, url: str) -> None:
    async with visit(browser, url, [], WIDE) as visitor:
        asked: list[str] = []
        visitor.page.on("request", lambda request: asked.append(request.url))
        visitor.guard.expect(404, "/nowhere")
        await visitor.page.goto(f"{url}/nowhere", wait_until="networkidle")
        assert not [name for name in asked if "chart" in name]
        await visitor.open("/show")
        await expect(visitor.page.locator("#chart-area canvas")).to_be_visible()
        assert [name for name in asked if "/static/charts-" in name]


async def test_chart_follows_the_theme_of_the_system(browser: Browser, url: str) -> None:
    async with _gallery(browser, url) as visitor:
        page = visitor.page
        await expect(page.locator("#chart-bars canvas")).to_be_visible()
        await page.emulate_media(color_scheme="light")
        light = await _ink_with(page, "36,80,184")
        await page.emulate_media(color_scheme="dark")
        assert light.isdisjoint(await _ink_with(page, "143,176,255"))


async def test_theme_of_the_system_needs_no_script(browser: Browser, url: str) -> None:
    for scheme, is_dark in (("light", False), ("dark", True)):
        context = await browser.new_context(java_script_enabled=False, color_scheme=scheme)  # type: ignore[arg-type]  # a Literal
        page = await context.new_page()
        await page.goto(f"{url}/show")
        shot = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in shot[4:-1].split(",")) < 128 * 3) == is_dark
        await context.close()


async def test_phones_menu_opens_and_closes_by_keyboard(browser: Browser, url: str) -> None:
    async with _gallery(browser, url, PHONE) as visitor:
        page = visitor.page
        menu, sidebar = page.get_by_role("button", name="Menu"), page.locator("#sidebar")
        await expect(sidebar).to_be_hidden()
        await menu.focus()
        await page.keyboard.press("Enter")
        await expect(sidebar).to_be_visible()
        await page.keyboard.press("Tab")
        await expect(sidebar.locator("a").first).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(sidebar).to_be_hidden()
        await expect(menu).to_be_focused()


async def test_account_menu_changes_the_theme(browser: Browser, url: str) -> None:
    for look in (WIDE, PHONE):
        async with _gallery(browser, url, look) as visitor:
            page = visitor.page
            if look.is_narrow:
                await page.get_by_role("button", name="Menu").click()
            await page.locator(".account-button").click()
            async with page.expect_navigation():
                await page.get_by_role("button", name="Dark").click()
            await expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")


async def test_toast_stays_until_it_is_dismissed(browser: Browser, url: str) -> None:
    async with _gallery(browser, url) as visitor:
        toasts = visitor.page.locator(".toast-note")
        await expect(toasts).to_have_count(4)
        await toasts.first.get_by_role("button", name="Dismiss").click()
        await expect(toasts).to_have_count(3)


async def test_form_with_errors_has_the_focus(browser: Browser, url: str) -> None:
    async with _gallery(browser, url) as visitor:
        await expect(visitor.page.locator("[data-form-error]")).to_be_focused()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("look", [WIDE, PHONE], ids=["wide", "phone"])
async def test_gallery_and_errors_are_accessible(browser: Browser, url: str, look: Look, theme: str) -> None:
    chosen = Look("en", "dark" if theme == "dark" else "light", look.width_px)
    async with visit(browser, url, [], chosen) as visitor:
        await visitor.open("/show")
        async with visitor.page.expect_navigation():
            await visitor.page.evaluate(CHOOSE_THEME, theme)
        await expect(visitor.page.locator("#chart-bars canvas")).to_be_visible()
        for summary in await visitor.page.locator("summary").all():
            await summary.click()
        await visitor.check_page()
        visitor.guard.expect(404, "/nowhere")
        await visitor.page.goto(f"{url}/nowhere")
        await visitor.check_page()
