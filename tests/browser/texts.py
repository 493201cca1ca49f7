"""Whether a page speaks one language: what it says in nothing but English words must be names or data."""

from playwright.async_api import Page

from tests.browser.catalogue import same_words, translations, words_of
from tests.browser.look import Language

# Hidden text counts: a dialog that is closed will be opened. Code, and whatever is marked as no language, does not.
_COLLECT = """() => {
    const skipped = "script, noscript, style, template, code, pre, textarea, svg, [translate=no]";
    const found = [document.title];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.nodeType === Node.TEXT_NODE ? node.parentElement : node;
        if (element.closest(skipped)) continue;
        if (node.nodeType === Node.TEXT_NODE) found.push(node.data);
        else for (const name of ["aria-label", "aria-description", "title", "placeholder", "alt"])
            if (node.hasAttribute(name)) found.push(node.getAttribute(name));
    }
    return found.map((text) => text.trim()).filter(Boolean);
}"""


async def texts_of(page: Page) -> list[str]:
    """Every text and every label of the page."""
    found: list[str] = await page.evaluate(_COLLECT)
    return found


def untranslated(language: Language, english: list[str], own: list[str], data: frozenset[str]) -> list[str]:
    """The texts of a page in `language` that hold nothing but words of the same page in English, and no translation of
    the catalogue's is that text. Left out are `data` and words of both languages."""
    known = same_words(language) | data
    suspicious = frozenset().union(*map(words_of, english)) - known
    return [
        text
        for text in own
        if any(
            (words := words_of(part) - known) and words <= suspicious and part not in translations(language)
            for part in text.split(" · ")
        )
    ]
