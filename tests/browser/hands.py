"""Two ways to use a page: a pointer, and a keyboard alone."""

import abc
from typing import Any

from playwright.async_api import Locator, Page, expect

_MOST_TABS = 120
_APPEARANCE = """(element) => {
    const seen = [element, element.parentElement, element.nextElementSibling, element.closest("label")];
    return JSON.stringify(seen.filter(Boolean).map((part) => {
        const style = getComputedStyle(part);
        const outline = style.outlineStyle === "none" || parseFloat(style.outlineWidth) === 0 ? "" :
            style.outlineStyle + style.outlineWidth + style.outlineColor;
        return [outline, style.boxShadow, style.borderColor];
    }));
}"""
_HAS_FOCUS = "(element) => element === document.activeElement"
_IN_VIEW = """(element) => {
    const box = element.getBoundingClientRect();
    return box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
}"""


class Hands(abc.ABC):
    """What a person does to a page, by either means."""

    name: str

    def __init__(self, page: Page) -> None:
        self._page = page

    @abc.abstractmethod
    async def press(self, target: Locator) -> None:
        """Use a link, a button or a disclosure."""

    @abc.abstractmethod
    async def write(self, target: Locator, text: str) -> None:
        """Replace what stands in a field."""

    @abc.abstractmethod
    async def choose(self, target: Locator, value: str) -> None:
        """Pick one option of a `<select>`."""

    @abc.abstractmethod
    async def pick_tab(self, tabs: Locator, name: str) -> None:
        """Bring the tab of that name to the front, of a `tablist`."""


class Mouse(Hands):
    name = "mouse"

    async def press(self, target: Locator) -> None:
        await target.click()

    async def write(self, target: Locator, text: str) -> None:
        await target.click()
        await target.fill(text)

    async def choose(self, target: Locator, value: str) -> None:
        await target.select_option(value)

    async def pick_tab(self, tabs: Locator, name: str) -> None:
        await tabs.get_by_role("tab", name=name, exact=True).click()


class Keyboard(Hands):
    """Only keys reach the page: no element is clicked, focused or changed by any other way."""

    name = "keyboard"

    async def press(self, target: Locator) -> None:
        await self.reach(target)
        await self._page.keyboard.press("Enter")

    async def write(self, target: Locator, text: str) -> None:
        await self.reach(target)
        await self._page.keyboard.press("ControlOrMeta+a")
        await self._page.keyboard.type(text)

    async def choose(self, target: Locator, value: str) -> None:
        """By arrow keys, which a select takes while it is closed."""
        await self.reach(target)
        options: list[str] = await target.evaluate("(select) => [...select.options].map((option) => option.value)")
        steps = options.index(value) - options.index(await target.input_value())
        for _ in range(abs(steps)):
            await self._page.keyboard.press("ArrowDown" if steps > 0 else "ArrowUp")
        await expect(target).to_have_value(value)

    async def pick_tab(self, tabs: Locator, name: str) -> None:
        """Tab reaches the selected one only; from there the arrows go on."""
        wanted = tabs.get_by_role("tab", name=name, exact=True)
        await self.reach(tabs.get_by_role("tab", selected=True))
        for _ in range(await tabs.get_by_role("tab").count()):
            if not await wanted.evaluate(_HAS_FOCUS):
                await self._page.keyboard.press("ArrowRight")
        await expect(wanted).to_be_focused()

    async def reach(self, target: Locator, most: int = _MOST_TABS) -> None:
        """Tab until `target` has focus; then it must be in view and look different from before."""
        await expect(target).to_be_attached()
        before = await self._blurred_appearance(target)
        for _ in range(most):
            if await target.evaluate(_HAS_FOCUS):
                break
            await self._page.keyboard.press("Tab")
        assert await target.evaluate(_HAS_FOCUS), f"{most} times Tab did not reach {target}"
        assert await target.evaluate(_IN_VIEW), f"{target} has focus, but is out of view"
        assert before is None or await target.evaluate(_APPEARANCE) != before, f"the focus on {target} is invisible"

    async def _blurred_appearance(self, target: Locator) -> Any:
        return None if await target.evaluate(_HAS_FOCUS) else await target.evaluate(_APPEARANCE)
