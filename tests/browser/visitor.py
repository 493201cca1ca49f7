"""One person at the pages: with a look, with hands, and under guard."""

import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from playwright.async_api import Browser, Locator, Page, expect

from tests.browser import axe
from tests.browser.catalogue import translate
from tests.browser.guard import Guard
from tests.browser.hands import Hands, Keyboard, Mouse
from tests.browser.look import Look

Role = Literal["button", "checkbox", "combobox", "dialog", "heading", "link", "navigation", "row", "tab", "textbox"]

_MOST_MS = 15_000
_STATE = """() => ({
    language: document.documentElement.lang,
    headings: document.querySelectorAll("h1").length,
    width: document.documentElement.scrollWidth,
    background: getComputedStyle(document.body).backgroundColor,
    scheme: getComputedStyle(document.documentElement).colorScheme,
})"""
_CHANNELS = re.compile(r"[\d.]+")
_MIDDLE_GREY = 128


@dataclass
class Visitor:
    """Pages of one origin as one person sees them."""

    page: Page
    look: Look
    hands: Hands
    guard: Guard
    url: str

    def text(self, msgid: str, **values: object) -> str:
        return translate(self.look.language, msgid, **values)

    def named(self, role: Role, msgid: str, **values: object) -> Locator:
        """By its accessible name, which is the translation of `msgid` and nothing more."""
        return self.page.get_by_role(role, name=self.text(msgid, **values), exact=True)

    def field(self, msgid: str) -> Locator:
        return self.page.get_by_label(self.text(msgid), exact=True)

    async def open(self, path: str) -> None:
        answer = await self.page.goto(self.url + path)
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"

    async def arrived(self, path: str) -> None:
        """Wait until the address is `path`, in which `*` stands for anything."""
        await self.page.wait_for_url(lambda url: fnmatchcase(url, self.url + path))

    async def check_page(self) -> None:
        """What holds for every page in every look. axe looks at a page once in each: when a pointer uses it."""
        await self.page.wait_for_load_state()  # a page that has only just answered has no element yet
        state = await self.page.evaluate(_STATE)
        where = f"{self.page.url} in {self.look}"
        assert state["language"] == self.look.language, f"{where}: lang={state['language']}"
        assert state["headings"] == 1, f"{where}: {state['headings']} h1"
        assert state["width"] <= self.look.width_px, f"{where}: scrolls sideways, {state['width']} px wide"
        assert _is_dark(state["background"]) == (self.look.theme == "dark"), f"{where}: {state['background']}"
        found = await axe.violations(self.page) if isinstance(self.hands, Mouse) else []
        assert not found, f"{where}:\n" + "\n".join(found)


@asynccontextmanager
async def visit(
    browser: Browser,
    url: str,
    gateways: Collection[str],
    look: Look,
    *,
    by: type[Hands] = Mouse,
    locale: str = "en-US",
) -> AsyncIterator[Visitor]:
    """A fresh context with an empty cache and no cookie, and at the end nothing that the guard objects to.

    Motion is reduced, so that a colour is measured when it has arrived. The system's theme is the opposite of the
    look's, so that a page which ignores the visitor's own choice is found out.
    """
    context = await browser.new_context(
        viewport={"width": look.width_px, "height": look.height_px},
        is_mobile=look.is_narrow,
        has_touch=look.is_narrow and by is not Keyboard,
        color_scheme="light" if look.theme == "dark" else "dark",
        reduced_motion="reduce",
        locale=locale,
    )
    context.set_default_timeout(_MOST_MS)
    expect.set_options(timeout=_MOST_MS)
    guard = Guard({url, *gateways})
    await guard.watch(context)
    page = await context.new_page()
    try:
        yield Visitor(page, look, by(page), guard, url)
    finally:
        await context.close()
    guard.check()


def _is_dark(colour: str) -> bool:
    channels = [float(channel) for channel in _CHANNELS.findall(colour)[:3]]
    return sum(channels) / 3 < _MIDDLE_GREY
