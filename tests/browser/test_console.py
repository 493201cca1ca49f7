"""The operator's way through the console, in every language, theme and width, by pointer and by keyboard alone."""

import pytest
from playwright.async_api import Browser, expect

from tests.browser.hands import Hands, Keyboard, Mouse
from tests.browser.look import ALL_LOOKS, Look
from tests.browser.screens import Account, choose_look, go_to, sign_in, sign_out
from tests.browser.visitor import Visitor, visit
from tests.instance import Instance

PAGES = {
    "Deployments": "/console/deployments",
    "Tenants": "/console/tenants",
    "Revenue": "/console/revenue",
    "Tax": "/console/tax",
    "Disputed usage": "/console/disputes",
    "Price book": "/console/prices",
    "Regions": "/console/regions",
}

# With a pointer in every look; by keyboard in four of them, which have each language, theme and width.
WAYS: list[tuple[Look, type[Hands]]] = [
    *((look, Mouse) for look in ALL_LOOKS),
    *((look, Keyboard) for look in ALL_LOOKS[::3]),
]


def operator(instance: Instance) -> Account:
    return Account(**instance.run["demo"]["operator"])


@pytest.mark.parametrize(("look", "hands"), WAYS, ids=lambda value: getattr(value, "name", str(value)))
async def test_from_sign_in_through_every_page(
    browser: Browser, instance: Instance, look: Look, hands: type[Hands]
) -> None:
    async with visit(browser, instance.portal_url, [], look, by=hands) as visitor:
        await visitor.open("/console")
        await visitor.arrived("/console/sign-in?*")
        await choose_look(visitor)
        await visitor.check_page()
        await sign_in(visitor, operator(instance), then="/console/regions")
        await expect(visitor.page.get_by_role("heading", name="fr-par")).to_be_visible()
        for msgid, path in PAGES.items():
            await go_to(visitor, msgid, path)
            await expect(visitor.page.get_by_role("heading", level=1)).to_have_text(visitor.text(msgid))
            await visitor.check_page()
        await look_into_demo_tenant(visitor)
        await sign_out(visitor)


async def look_into_demo_tenant(visitor: Visitor) -> None:
    await go_to(visitor, "Tenants", "/console/tenants")
    await visitor.hands.press(visitor.page.get_by_role("link", name="Demo", exact=True))
    await visitor.arrived("/console/tenants/ten_*")
    await visitor.check_page()
