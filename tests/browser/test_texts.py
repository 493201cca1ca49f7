"""No page mixes languages: what a French or German page says in English words is a name, or a word of both."""

import pytest
from playwright.async_api import Browser, expect

from tests.browser.catalogue import words_of
from tests.browser.look import Language, Look
from tests.browser.screens import Account, choose_look, sign_in
from tests.browser.test_live import call
from tests.browser.test_weight import CONSOLE, PORTAL, SIGNED_OUT
from tests.browser.texts import texts_of, untranslated
from tests.browser.visitor import Visitor, visit
from tests.instance import Instance

# Names in the demo's data, of the product, what each language calls itself, and months that German calls the same.
NAMES = words_of(
    "Chappe Demo Hugging Face Microsoft Playground Org default demo fr-only management probe fr-par de-fra "
    "fr-par-gateway-0 it-mil Staging Old huggingface microsoft Factur-X XRechnung "
    "English Français Deutsch EUR UTC llama.cpp curl Python "
    "JavaScript April August September November"
)

_SETTLED_MS = 10_000


@pytest.mark.parametrize("language", ["fr", "de"])
async def test_no_page_says_in_english_what_it_could_say_in_its_language(
    browser: Browser, instance: Instance, language: Language
) -> None:
    request_id = call(instance, "fr-par")
    english = await read_all(browser, instance, Look(), request_id)
    own = await read_all(browser, instance, Look(language=language), request_id)
    mixed = {path: found for path in own if (found := untranslated(language, english[path], own[path], NAMES))}
    assert mixed == {}


async def read_all(browser: Browser, instance: Instance, look: Look, request_id: str) -> dict[str, list[str]]:
    """The texts of every page by its path, the one about that request included, as soon as it is settled."""
    async with visit(browser, instance.portal_url, [], look) as visitor:
        visitor.guard.expect(404, "/nothing-here")
        await visitor.open("/sign-up")
        await choose_look(visitor)
        found = await read(visitor, SIGNED_OUT)
        await visitor.open("/sign-in")
        await sign_in(visitor, Account(**instance.run["demo"]["member"]), then=PORTAL[0])
        path = f"/requests/{request_id}"
        await expect(visitor.page.locator(f"#latest-table a[href='{path}']")).to_be_visible(timeout=_SETTLED_MS)
        found |= await read(visitor, [*PORTAL, path])
        await visitor.open("/console/sign-in")
        await sign_in(visitor, Account(**instance.run["demo"]["operator"]), then=CONSOLE[0])
        return found | await read(visitor, CONSOLE)


async def read(visitor: Visitor, paths: list[str]) -> dict[str, list[str]]:
    found = {}
    for path in paths:
        await visitor.page.goto(visitor.url + path)
        found[path] = await texts_of(visitor.page)
    return found
