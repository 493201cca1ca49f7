"""The product's own translations, so that a test finds "Sign in" by its name in every language."""

import functools
import re
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from tests.browser.look import Language

_LOCALE = Path(__file__).parents[2] / "platform/chappe_control/locale"
_EDGES = re.compile(r"^\W+|\W+$")


def translate(language: Language, msgid: str, **values: object) -> str:
    """What the pages say for the English `msgid`. A text that no page has, or that is not translated, fails here."""
    text = msgid if language == "en" else _translation(language, msgid)
    if language == "en":
        _translation("fr", msgid)
    return text % values if values else text


@functools.cache
def same_words(language: Language) -> frozenset[str]:
    """Words that stand in an English text and in its translation: names, units, and words that both languages have."""
    if language == "en":
        return frozenset()
    pairs = ((_text(message.id), _text(message.string)) for message in _catalogue(language) if message.id)
    return frozenset(word for english, own in pairs for word in words_of(english) & words_of(own))


@functools.cache
def translations(language: Language) -> frozenset[str]:
    """All that the catalogue says in this language."""
    return frozenset(_text(message.string) for message in _catalogue(language) if message.id)


def words_of(text: str) -> frozenset[str]:
    """Words of at least three letters; a token with a digit or a sign other than a hyphen in it is data."""
    tokens = (_EDGES.sub("", token) for token in text.split())
    return frozenset(token for token in tokens if len(token) > 2 and token.replace("-", "").isalpha())


def _translation(language: Language, msgid: str) -> str:
    message = _catalogue(language).get(msgid)
    assert message is not None, f"no page says {msgid!r}"
    text = _text(message.string)
    assert text, f"{msgid!r} is not translated to {language}"
    return text


@functools.cache
def _catalogue(language: Language) -> Catalog:
    with (_LOCALE / language / "LC_MESSAGES" / "messages.po").open("rb") as file:
        return read_po(file, locale=language)


def _text(value: str | tuple[str, ...] | list[str] | None) -> str:
    """Of a plural all forms, run together."""
    return " ".join(value) if isinstance(value, tuple | list) else value or ""
