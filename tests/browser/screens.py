"""What people do on the portal's and the console's own screens, in the words of the visitor's language."""

from dataclasses import dataclass

from playwright.async_api import expect

from tests.browser.look import Look
from tests.browser.visitor import Visitor

_THEME_NAMES = {"light": "Light", "dark": "Dark"}


@dataclass(frozen=True)
class Account:
    """Somebody who can sign in."""

    email: str
    password: str


async def choose_look(visitor: Visitor) -> None:
    """Language and theme by the product's own switches. A new visitor reads English, and sees what the system says."""
    wanted, seen = visitor.look, Look()
    if wanted.language != seen.language:
        await visitor.hands.press(visitor.page.get_by_role("button", name=wanted.language_name, exact=True))
        await expect(visitor.page.locator("html")).to_have_attribute("lang", wanted.language)
    await visitor.hands.press(visitor.named("button", _THEME_NAMES[wanted.theme]))
    await expect(visitor.page.locator("html")).to_have_attribute("data-bs-theme", wanted.theme)


async def sign_up(visitor: Visitor, account: Account, organisation: str) -> None:
    """From the sign-up page to the first page of a new organisation."""
    await visitor.hands.write(visitor.field("Organisation"), organisation)
    await visitor.hands.write(visitor.field("E-mail"), account.email)
    await visitor.hands.write(visitor.field("Password"), account.password)
    await visitor.hands.press(visitor.named("button", "Create account"))
    await visitor.arrived("/keys?*")


async def sign_in(visitor: Visitor, account: Account, *, then: str) -> None:
    """On the sign-in page, of the portal or the console; it leads to `then`."""
    await visitor.hands.write(visitor.field("E-mail"), account.email)
    await visitor.hands.write(visitor.field("Password"), account.password)
    await visitor.hands.press(visitor.named("button", "Sign in"))
    await visitor.arrived(then)


async def sign_out(visitor: Visitor) -> None:
    """By the menu that the account's button opens; on a phone that is inside the sidebar's."""
    if visitor.look.is_narrow:
        await visitor.hands.press(visitor.named("button", "Menu"))
    await visitor.hands.press(visitor.page.locator("[popovertarget=account]"))
    await visitor.hands.press(visitor.named("button", "Sign out"))
    await visitor.arrived("*/sign-in")


async def go_to(visitor: Visitor, msgid: str, path: str) -> None:
    """By the main navigation."""
    if visitor.look.is_narrow:
        await visitor.hands.press(visitor.named("button", "Menu"))
    await visitor.hands.press(
        visitor.named("navigation", "Main").get_by_role("link", name=visitor.text(msgid), exact=True)
    )
    await visitor.arrived(path)
