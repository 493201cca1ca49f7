"""Every text is there in every language, whole and as its typographers write it."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po

from chappe_control.pages.languages import LANGUAGES, LOCALE_FOLDER

ROOT = Path(__file__).resolve().parents[2]
CONTROL = LOCALE_FOLDER.parent
TRANSLATED = [language for language in LANGUAGES if language != "en"]
PLACEHOLDER = re.compile(r"%\(\w+\)s|%%|%")


def _sources() -> set[str]:
    """The texts in templates and code, as `make messages` collects them."""
    mappings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["babel"]["mappings"]
    methods = [(mapping.pop("pattern"), mapping.pop("method")) for mapping in (dict(entry) for entry in mappings)]
    options = {entry["pattern"]: {"trimmed": "true"} for entry in mappings if entry["method"] == "jinja2"}
    keywords = {**DEFAULT_KEYWORDS, "N_": None, "translate": (2,), "translate_into": (2,)}
    found = extract_from_dir(
        CONTROL,
        methods,
        options,
        keywords,
        directory_filter=lambda folder: Path(folder).name not in {"web", "static", "__pycache__"},
    )
    return {text if isinstance(text, str) else text[0] for _, _, text, _, _ in found}


def _catalogue(language: str) -> Catalog:
    with (LOCALE_FOLDER / language / "LC_MESSAGES" / "messages.po").open("rb") as file:
        return read_po(file, locale=language)


def _messages(language: str) -> Iterator[Message]:
    yield from (message for message in _catalogue(language) if message.id)


def _forms(text: object) -> list[str]:
    return list(text) if isinstance(text, (tuple, list)) else [str(text or "")]


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_has_a_translation(language: str) -> None:
    known = {_forms(message.id)[0]: message for message in _messages(language)}
    sources = _sources()
    assert len(sources) > 100
    assert sources - known.keys() == set(), "run `make messages`"
    assert [text for text in sources if not all(_forms(known[text].string))] == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_nothing_is_fuzzy_or_left_over(language: str) -> None:
    catalogue = _catalogue(language)
    assert [message.id for message in catalogue if message.id and message.fuzzy] == []
    assert list(catalogue.obsolete) == []
    assert {_forms(message.id)[0] for message in _messages(language)} - _sources() == set(), "run `make messages`"


@pytest.mark.parametrize("language", TRANSLATED)
def test_translations_keep_the_placeholders(language: str) -> None:
    for message in _messages(language):
        expected = set(PLACEHOLDER.findall(_forms(message.id)[-1]))
        for form in _forms(message.string):
            # The singular may say "one" in words.
            assert set(PLACEHOLDER.findall(form)) <= expected, form
        assert set(PLACEHOLDER.findall(_forms(message.string)[-1])) == expected, message.id


def test_no_text_holds_a_bare_percent_sign() -> None:
    """Templates format every text, so one would break the page."""
    assert [text for text in _sources() if "%" in re.sub(r"%\(\w+\)s|%%", "", text)] == []


def test_french_and_german_are_set_as_their_readers_expect() -> None:
    for message in _messages("fr"):
        for form in _forms(message.string):
            assert "'" not in form, form
            assert not re.search(r"[^\s\u202f\u00a0!?:…][;!?](?:\s|$)| [;:!?»]|« ", form), form
    for message in _messages("de"):
        for form in _forms(message.string):
            assert not re.search(r"[“\"][A-Za-zÄÖÜ]", form), form


@pytest.mark.parametrize("language", TRANSLATED)
def test_plurals_have_all_their_forms(language: str) -> None:
    catalogue = _catalogue(language)
    for message in catalogue:
        if isinstance(message.id, (tuple, list)):
            assert len(_forms(message.string)) == catalogue.num_plurals, message.id
