"""A newcomer's way, in every language, theme and width, by pointer and by keyboard alone: an account, a key, an answer
from the real model, and what it cost."""

import secrets

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.hands import Hands, Keyboard, Mouse
from tests.browser.look import ALL_LOOKS, Look
from tests.browser.screens import Account, choose_look, choose_new_password, go_to, sign_in, sign_out, sign_up
from tests.browser.visitor import Visitor, visit
from tests.instance import Instance

PASSWORD = "tidal lantern mosaic 42"
QUESTION = "What is the capital of France?"
MOST_TOKENS = "24"
_SETTLED_MS = 10_000
# Every length that the answer ever has, from now on.
_WATCH_ANSWER = """() => {
    window.answerLengths = [];
    const note = () => {
        const answer = document.querySelector(".turn-answer [data-part=text]");
        if (answer) window.answerLengths.push(answer.textContent.length);
    };
    const log = document.getElementById("playground-log");
    new MutationObserver(note).observe(log, {childList: true, characterData: true, subtree: true});
}"""


@pytest.mark.parametrize("hands", [Mouse, Keyboard], ids=lambda hands: hands.name)
@pytest.mark.parametrize("look", ALL_LOOKS, ids=str)
async def test_from_sign_up_to_the_price_of_an_answer(
    browser: Browser, instance: Instance, look: Look, hands: type[Hands]
) -> None:
    region = "de-fra" if look.language == "de" else "fr-par"
    async with visit(browser, instance.portal_url, instance.gateway_urls, look, by=hands) as visitor:
        await visitor.open("/sign-up")
        await choose_look(visitor)
        await visitor.check_page()
        await sign_up(visitor, instance, new_account(), new_organisation())
        await visitor.check_page()
        await make_first_key(visitor, instance, region)
        await go_to(visitor, "Playground", "/playground")
        cost = await ask_in_playground(visitor, region)
        await read_price(visitor, region, cost)
        await find_in_log(visitor, cost)
        await go_to(visitor, "Overview", "/overview")
        await expect(visitor.page.locator("#latest-table tbody tr")).to_contain_text([cost])
        await visitor.check_page()
        await sign_out(visitor)


@pytest.mark.parametrize("look", [Look(), Look("fr", "dark"), Look("de")], ids=str)
async def test_a_forgotten_password_is_chosen_anew_by_mail(browser: Browser, instance: Instance, look: Look) -> None:
    account = new_account()
    async with visit(browser, instance.portal_url, [], Look()) as visitor:
        await visitor.open("/sign-up")
        await choose_look(visitor)
        await sign_up(visitor, instance, account, new_organisation())
    async with visit(browser, instance.portal_url, [], look) as visitor:
        await visitor.open("/sign-in")
        await choose_look(visitor)
        remembered = Account(account.email, "harbour pencil 5 thunder")
        await choose_new_password(visitor, instance, remembered)
        await sign_in(visitor, remembered, then="/overview")


def new_account() -> Account:
    return Account(f"{secrets.token_hex(6)}@example.eu", PASSWORD)


def new_organisation() -> str:
    """Its name has a digit, and so is nothing that a page could say in words."""
    return f"Org {secrets.randbelow(10**12):012}"


async def make_first_key(visitor: Visitor, instance: Instance, region: str) -> str:
    """From the keys' page after signing up. The key, which the page shows this once."""
    await visitor.hands.press(visitor.named("button", "Create the key"))
    await expect(visitor.named("heading", "Your new key")).to_be_visible()
    secret = await visitor.page.locator("#secret").inner_text()
    assert secret.startswith("ck_i")
    await visitor.hands.choose(visitor.field("Region"), region)
    shown = visitor.page.locator(f"[data-choice={region}]")
    for language in ("JavaScript", "curl", "Python"):
        await visitor.hands.pick_tab(shown.get_by_role("tablist"), language)
        code = await shown.get_by_role("tabpanel", name=language).locator("code").inner_text()
        assert secret in code
        assert instance.gateway(region) in code
    await visitor.check_page()
    return secret


async def ask_in_playground(visitor: Visitor, region: str) -> str:
    """What the page says that the answer cost. The answer came bit by bit, and is settled soon after its end."""
    page = visitor.page
    await visitor.check_page()
    await visitor.hands.choose(visitor.field("Region"), region)
    await page.evaluate(_WATCH_ANSWER)
    await visitor.hands.write(page.locator("#playground-temperature"), "0")
    await visitor.hands.write(page.locator("#playground-max-tokens"), MOST_TOKENS)
    await visitor.hands.write(visitor.field("Message"), QUESTION)
    await visitor.hands.press(visitor.named("button", "Send"))
    await expect(page.locator("#playground-status")).to_have_text(visitor.text("The answer is complete."))
    await expect(visitor.named("link", "How the price comes about")).to_be_visible(timeout=_SETTLED_MS)
    await expect(page.locator("#figure-region")).to_contain_text(region)
    answer = await page.locator(".turn-answer [data-part=text]").inner_text()
    assert "Paris" in answer
    lengths = await page.evaluate("() => window.answerLengths")
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 3, f"the answer did not grow bit by bit: {lengths}"
    assert int(await page.locator("#figure-tokens").inner_text()) > 3
    await visitor.check_page()
    return await page.locator("#figure-cost").inner_text()


async def read_price(visitor: Visitor, region: str, cost: str) -> None:
    """On the request's own page: its lines add up to what was shown."""
    page = visitor.page
    await visitor.hands.press(visitor.named("link", "How the price comes about"))
    await visitor.arrived("/requests/req_*")
    await expect(page.locator("#charged")).to_have_text(cost)
    charged = int(await page.locator("#charged").get_attribute("data-nano") or 0)
    assert charged > 0
    assert charged == await _sum_of_lines(page)
    await expect(page.locator("#place")).to_contain_text(region)
    await visitor.check_page()


async def find_in_log(visitor: Visitor, cost: str) -> None:
    path = visitor.page.url.removeprefix(visitor.url)
    await go_to(visitor, "Requests", "/requests")
    row = visitor.page.locator("#log-table tbody tr", has=visitor.page.locator(f"a[href='{path}']"))
    await expect(row).to_contain_text(cost)
    await visitor.check_page()


async def _sum_of_lines(page: Page) -> int:
    lines = await page.locator("#price-lines tbody [data-nano]").evaluate_all("(all) => all.map((e) => e.dataset.nano)")
    return sum(int(nano) for nano in lines)
