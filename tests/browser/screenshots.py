"""`make screenshots`: takes the pictures in docs/screenshots again, of a real instance with a busy demonstration."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright, expect

from tests.browser.chromium import ARGUMENTS, HOW_TO_INSTALL, find_chromium
from tests.browser.demo import Customer, customers, give_past, plant, present
from tests.browser.look import NARROW_PX, THEMES, Look
from tests.browser.screens import Account, choose_look, sign_in
from tests.browser.visitor import Visitor, visit
from tests.instance import Instance, running_instance

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
MOST_BYTES = 150_000
QUESTION = "What is the capital of France?"
_ANSWERED_MS = 60_000
_WAITED_FOR_MS = 6_000

Take = Callable[[Visitor], Awaitable[None]]


async def main() -> None:
    path = find_chromium()
    if path is None:
        sys.exit(f"Chromium is missing: {HOW_TO_INSTALL}")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chappe-shots-") as folder, running_instance(Path(folder)) as instance:
        shown = customers()
        plant(instance, Path(folder), shown)
        await give_past(instance, shown)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
            with present(instance, shown):
                await _take_all(browser, instance, shown[0])
            await browser.close()
    _check_sizes()


async def _take_all(browser: Browser, instance: Instance, customer: Customer) -> None:
    operator = Account(**instance.run["demo"]["operator"])
    for theme in THEMES:
        async with visit(browser, instance.portal_url, instance.gateway_urls, Look(theme=theme)) as visitor:
            await _enter(visitor, "/sign-in", customer.account, "/overview")
            await _take(visitor, "overview")
            await visitor.open("/requests")
            await visitor.page.locator("#log-table tbody a").nth(4).click()
            await _take(visitor, "request")
            await visitor.open("/keys")
            await _take(visitor, "keys")
            await visitor.open("/playground")
            await _ask(visitor)
            await _take(visitor, "playground")
        async with visit(browser, instance.portal_url, [], Look(theme=theme)) as visitor:
            await _enter(visitor, "/console/sign-in", operator, "/console/regions")
            for name, path in {"regions": "regions", "revenue": "revenue", "gallery": "gallery"}.items():
                await visitor.open(f"/console/{path}")
                await _take(visitor, f"console-{name}")
        async with visit(browser, instance.portal_url, [], Look(theme=theme, width_px=NARROW_PX)) as visitor:
            await _enter(visitor, "/sign-in", customer.account, "/overview")
            await _take(visitor, "overview-phone")


async def _enter(visitor: Visitor, path: str, account: Account, then: str) -> None:
    await visitor.open(path)
    await choose_look(visitor)
    await sign_in(visitor, account, then=then)


async def _ask(visitor: Visitor) -> None:
    await visitor.hands.write(visitor.page.locator("#playground-temperature"), "0")
    await visitor.hands.write(visitor.page.locator("#playground-max-tokens"), "40")
    await visitor.hands.write(visitor.field("Message"), QUESTION)
    await visitor.hands.press(visitor.named("button", "Send"))
    await expect(visitor.named("link", "How the price comes about")).to_be_visible(timeout=_ANSWERED_MS)


async def _take(visitor: Visitor, name: str) -> None:
    """The visible part of the page, once its charts are drawn and its figures are live."""
    page = visitor.page
    charts = page.locator("[data-chart]")
    if await charts.count():
        await expect(charts.first.locator("canvas")).to_be_visible(timeout=_WAITED_FOR_MS)
    await page.evaluate(
        "() => { document.activeElement?.blur(); scrollTo(0, 0); return document.fonts.ready.then(() => null); }"
    )
    await page.mouse.move(0, 0)
    await visitor.check_page()
    await page.screenshot(path=FOLDER / f"{name}-{visitor.look.theme}.png")


def _check_sizes() -> None:
    sizes: dict[str, Any] = {path.name: path.stat().st_size for path in sorted(FOLDER.glob("*.png"))}
    for name, size in sizes.items():
        sys.stdout.write(f"{name}  {size / 1000:.0f} KB\n")
    heavy = [name for name, size in sizes.items() if size > MOST_BYTES]
    if heavy:
        sys.exit(f"over {MOST_BYTES // 1000} KB: {', '.join(heavy)}")


if __name__ == "__main__":
    os.environ.pop("CHAPPE_STATE_DIR", None)
    asyncio.run(main())
