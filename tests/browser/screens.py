"""What people do on the portal's and the console's own screens, in the words of the visitor's language."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from playwright.async_api import expect

from tests.browser.look import Look
from tests.browser.visitor import Visitor
from tests.instance import Instance

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


async def sign_up(visitor: Visitor, instance: Instance, account: Account, organisation: str) -> None:
    """From the sign-up page, by the link in the mail, to the first page of a new organisation."""
    await visitor.hands.write(visitor.field("Organisation"), organisation)
    await visitor.hands.write(visitor.field("E-mail"), account.email)
    await visitor.hands.press(visitor.named("button", "Continue"))
    await expect(visitor.named("heading", "Check your e-mail")).to_be_visible()
    await visitor.check_page()
    await open_link(visitor, await asyncio.to_thread(instance.letter_to, account.email))
    await expect(visitor.named("heading", "Choose your password")).to_be_visible()
    await visitor.check_page()
    await visitor.hands.write(visitor.field("Password"), account.password)
    await visitor.hands.press(visitor.named("button", "Create account"))
    await visitor.arrived("/keys?*")


async def choose_new_password(visitor: Visitor, instance: Instance, account: Account) -> None:
    """From the sign-in page, by the link in the mail, to `account.password`."""
    await visitor.hands.press(visitor.named("link", "Forgotten your password?"))
    await visitor.arrived("/forgot-password")
    await visitor.check_page()
    await visitor.hands.write(visitor.field("E-mail"), account.email)
    known = await asyncio.to_thread(instance.letters_to, account.email)
    await visitor.hands.press(visitor.named("button", "Send the link"))
    await expect(visitor.named("heading", "Check your e-mail")).to_be_visible()
    await open_link(visitor, await asyncio.to_thread(instance.letter_to, account.email, len(known)))
    await visitor.check_page()
    await visitor.hands.write(visitor.field("New password"), account.password)
    await visitor.hands.press(visitor.named("button", "Change the password"))
    await visitor.arrived("/sign-in")


async def open_link(visitor: Visitor, letter: Mapping[str, Any]) -> None:
    """The one that the letter holds, which must be the portal's."""
    (link,) = letter["links"]
    assert link.startswith(f"{visitor.url}/"), link
    await visitor.open(link.removeprefix(visitor.url))


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
