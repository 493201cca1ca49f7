"""The harness sees what it is there to see, shown on made-up pages: a check that cannot fail checks nothing."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser

from tests.browser.chromium import give_up
from tests.browser.hands import Keyboard
from tests.browser.look import NARROW_PX, Look
from tests.browser.stub_pages import StubPages, stub_pages
from tests.browser.texts import texts_of, untranslated
from tests.browser.visitor import visit
from tests.browser.weight import first_load_bytes


@pytest.fixture(scope="module")
def pages() -> Iterator[StubPages]:
    with stub_pages() as running:
        yield running


async def test_good_page_passes(browser: Browser, pages: StubPages) -> None:
    async with visit(browser, pages.url, [], Look()) as visitor:
        await visitor.open(pages.page('<p>Fine.</p><a href="#x">On</a>', "fetch('/style.css')"))
        await visitor.check_page()


@pytest.mark.parametrize(
    ("body", "script", "problem"),
    [
        ("", "console.error('broken')", "console error: broken"),
        ("", "console.warn('beware')", "console warning: beware"),
        ("", "throw new TypeError('oops')", "page error: oops"),
        ("", "eval('1')", "content security policy: script-src blocked eval"),
        ("<p style='color: red'>Red</p>", "", "content security policy: style-src-attr blocked inline"),
        ("<script>1</script>", "", "content security policy report: {"),
        ("", "fetch('http://127.0.0.1:9/').catch(() => {})", "request to another origin: GET http://127.0.0.1:9/"),
        ("", "fetch('/missing').then((answer) => answer.text())", "answer 404: GET http://localhost"),
    ],
)
async def test_guard_sees_a_faulty_page(
    browser: Browser, pages: StubPages, body: str, script: str, problem: str
) -> None:
    with pytest.raises(AssertionError) as seen:
        async with visit(browser, pages.url, [], Look()) as visitor:
            await visitor.page.goto(pages.url + pages.page(body, script), wait_until="networkidle")
    assert problem in str(seen.value)


async def test_expected_refusal_is_no_problem(browser: Browser, pages: StubPages) -> None:
    async with visit(browser, pages.url, [], Look()) as visitor:
        visitor.guard.expect(404, "/missing")
        await visitor.page.goto(pages.url + pages.page("", "fetch('/missing')"), wait_until="networkidle")


@pytest.mark.parametrize(
    ("look", "body", "fault"),
    [
        (Look(), '<p class="pale">Hardly to be read</p>', "axe color-contrast"),
        (Look(), '<a href="/"></a>', "axe link-name"),
        (Look(), "<h1>Another</h1>", "2 h1"),
        (Look(width_px=NARROW_PX), '<p class="wide">Long</p>', "scrolls sideways"),
        (Look(theme="dark"), "", "rgb(255, 255, 255)"),
        (Look(language="fr"), "", "lang=en"),
    ],
)
async def test_page_check_sees_a_fault(browser: Browser, pages: StubPages, look: Look, body: str, fault: str) -> None:
    async with visit(browser, pages.url, [], look) as visitor:
        await visitor.open(pages.page(body))
        with pytest.raises(AssertionError, match=fault.replace("(", r"\(").replace(")", r"\)")):
            await visitor.check_page()


async def test_keyboard_reaches_what_tab_reaches_and_demands_visible_focus(browser: Browser, pages: StubPages) -> None:
    body = (
        '<p><a href="#a">One</a> <a href="#b" tabindex="-1">Two</a> <a class="unseen" href="#c">Three</a></p>'
        "<select aria-label='Size'><option>small<option>medium<option>large</select>"
    )
    async with visit(browser, pages.url, [], Look(), by=Keyboard) as visitor:
        await visitor.open(pages.page(body))
        await visitor.hands.press(visitor.page.get_by_role("link", name="One"))
        assert visitor.page.url.endswith("#a")
        await visitor.hands.choose(visitor.page.get_by_label("Size"), "large")
        with pytest.raises(AssertionError, match="did not reach"):
            await visitor.hands.press(visitor.page.get_by_role("link", name="Two"))
        with pytest.raises(AssertionError, match="invisible"):
            await visitor.hands.press(visitor.page.get_by_role("link", name="Three"))


async def test_bytes_of_all_that_a_page_loads_are_counted(browser: Browser, pages: StubPages) -> None:
    path = pages.page("<p>Light</p>", f"console.log('{'x' * 5000}')")
    async with visit(browser, pages.url, [], Look()) as visitor:
        sizes = await first_load_bytes(visitor.page, pages.url + path)
    assert set(sizes) == {path, f"{path}.js", "/style.css"}
    assert 5000 < sizes[f"{path}.js"] < 5500


async def test_english_words_on_a_french_page_are_found(browser: Browser, pages: StubPages) -> None:
    english = (
        '<p>Recent requests</p><p>fr-par</p><p>Alice</p><button aria-label="Close window">x</button><code>curl</code>'
    )
    french = '<p>Requêtes récentes</p><p>fr-par</p><p>Alice</p><button aria-label="Close">x</button><code>curl</code>'
    async with visit(browser, pages.url, [], Look()) as visitor:
        await visitor.open(pages.page(english))
        first = await texts_of(visitor.page)
        await visitor.open(pages.page(french))
        second = await texts_of(visitor.page)
    assert untranslated("fr", first, second, frozenset({"Alice", "Stub", "fr-par"})) == ["Close"]


def test_missing_browser_fails_in_ci_and_is_skipped_elsewhere() -> None:
    with pytest.raises(pytest.fail.Exception, match="no browser"):
        give_up("no browser", {"CI": "true"})
    with pytest.raises(pytest.skip.Exception, match="no browser"):
        give_up("no browser", {})
