"""Visitors who chose nothing, who mistype, or who want where they may not go."""

from typing import Literal

import pytest
from playwright.async_api import Browser, expect

from tests.browser.look import NARROW_PX, Look, Theme
from tests.browser.screens import Account, choose_look, sign_in
from tests.browser.test_journey import new_account
from tests.browser.visitor import visit
from tests.instance import Instance


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_whoever_chose_no_theme_gets_the_systems(browser: Browser, instance: Instance, theme: Theme) -> None:
    system: Literal["light", "dark"] = theme
    async with visit(browser, instance.portal_url, [], Look(theme=theme)) as visitor:
        await visitor.page.emulate_media(color_scheme=system)
        await visitor.open("/sign-in")
        await visitor.check_page()


async def test_language_of_the_browser_is_the_first_one(browser: Browser, instance: Instance) -> None:
    async with visit(browser, instance.portal_url, [], Look("de"), locale="de-AT") as visitor:
        await visitor.open("/sign-in")
        await expect(visitor.named("button", "Sign in")).to_be_visible()


@pytest.mark.parametrize(
    "look", [Look("en", "dark"), Look("fr", "light", NARROW_PX), Look("de", "dark", NARROW_PX)], ids=str
)
async def test_wrong_password_is_said_where_the_focus_is(browser: Browser, instance: Instance, look: Look) -> None:
    async with visit(browser, instance.portal_url, [], look) as visitor:
        visitor.guard.expect(403, "/sign-in")
        visitor.guard.expect(422, "/sign-in")
        await visitor.open("/sign-in")
        await choose_look(visitor)
        await sign_in(visitor, new_account(), then="/sign-in")
        await expect(visitor.page.locator("[data-form-error]")).to_be_focused()
        await visitor.check_page()


async def test_deep_link_leads_there_after_the_sign_in(browser: Browser, instance: Instance) -> None:
    async with visit(browser, instance.portal_url, [], Look()) as visitor:
        await visitor.open("/requests?region=fr-par")
        await sign_in(visitor, Account(**instance.run["demo"]["member"]), then="/requests?region=fr-par")


async def test_members_session_opens_no_page_of_the_console(browser: Browser, instance: Instance) -> None:
    async with visit(browser, instance.portal_url, [], Look()) as visitor:
        await visitor.open("/sign-in")
        await sign_in(visitor, Account(**instance.run["demo"]["member"]), then="/overview")
        await visitor.open("/console/tenants")
        await visitor.arrived("/console/sign-in?next=/console/tenants")


async def test_missing_page_is_a_page_in_the_visitors_look(browser: Browser, instance: Instance) -> None:
    async with visit(browser, instance.portal_url, [], Look("fr", "dark", NARROW_PX)) as visitor:
        visitor.guard.expect(404, "/nothing-here")
        await visitor.open("/sign-in")
        await choose_look(visitor)
        await visitor.page.goto(f"{visitor.url}/nothing-here")
        await visitor.check_page()
