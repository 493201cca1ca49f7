"""English, French and German: which one a visitor reads, and the texts in it."""

import gettext
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from babel import Locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from litestar import Request

LANGUAGE_COOKIE: Final = "__Host-chappe-language"
DEFAULT_LANGUAGE: Final = "en"
# Each name is in its own language: whoever looks for it may read no other.
LANGUAGES: Final = {"en": "English", "fr": "Français", "de": "Deutsch"}
LOCALES: Final = {"en": Locale("en", "GB"), "fr": Locale("fr", "FR"), "de": Locale("de", "DE")}
LOCALE_FOLDER = Path(__file__).resolve().parents[1] / "locale"
_MAX_OFFERS = 20


def N_(text: str) -> str:  # noqa: N802 -- gettext's name for it, which Babel looks for
    """Mark a constant for translation; `translate` looks it up when it is shown."""
    return text


def choose_language(cookie: str | None, accept_language: str) -> str:
    """The visitor's own choice, else the first of the browser's that we speak, by its weights, else English."""
    if cookie in LANGUAGES:
        return cookie
    offers = []
    for place, offer in enumerate(accept_language.split(",")[:_MAX_OFFERS]):
        tag, _, weight = offer.partition(";")
        language = tag.strip().lower().partition("-")[0]
        if language in LANGUAGES and _weight(weight) > 0:
            offers.append((-_weight(weight), place, language))
    return min(offers)[2] if offers else DEFAULT_LANGUAGE


def language_of(request: Request[Any, Any, Any]) -> str:
    return choose_language(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", ""))


def translate(request: Request[Any, Any, Any], text: str, **values: object) -> str:
    """The text in the visitor's language; `%(name)s` in it stands for a value."""
    return translate_into(language_of(request), text, **values)


def translate_into(language: str, text: str, **values: object) -> str:
    translated = translations(language).gettext(text)
    return translated % values if values else translated


@cache
def translations(language: str) -> gettext.NullTranslations:
    """The catalogue, compiled in memory: no compiled file can be older than its text. English is the texts."""
    path = LOCALE_FOLDER / language / "LC_MESSAGES" / "messages.po"
    if language == DEFAULT_LANGUAGE or not path.exists():
        return gettext.NullTranslations()
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def gettext_of(language: str) -> tuple[Callable[[str], str], Callable[[str, str, int], str]]:
    """`gettext` and `ngettext`, as templates take them."""
    texts = translations(language)
    return texts.gettext, texts.ngettext


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
