"""Templates hold nothing that the content policy would refuse, and nothing that escapes escaping."""

import re
from pathlib import Path

import pytest

from chappe_control.pages.assets import load_assets
from chappe_control.pages.languages import LANGUAGES
from chappe_control.pages.render import TEMPLATE_FOLDER, make_pages
from chappe_kernel.clock import SystemClock

TEMPLATES = sorted(TEMPLATE_FOLDER.rglob("*.html"))
WEB = TEMPLATE_FOLDER.parent / "web" / "src"
FORBIDDEN = {
    "an inline style": r"\sstyle\s*=",
    "an inline handler": r"\son[a-z]+\s*=",
    "htmx evaluating text": r"hx-on|hx-vals\s*=\s*['\"]js:|hx-headers\s*=\s*['\"]js:|hx-vars",
    "an inline script or style element": r"<script(?![^>]*\ssrc=)|<style",
    "a script's address": r"javascript:\S",
    "unescaped text": r"\|\s*safe\b|autoescape|x-html",
    "somebody else's address": r"(?:src|href|action)\s*=\s*['\"](?:https?:)?//",
    "an expression that Alpine's CSP build refuses": r"(?:x-data|@\w+|:\w+)=['\"][^'\"]*[=>({;]",
}


@pytest.mark.parametrize("reason", FORBIDDEN)
def test_no_template_holds(reason: str) -> None:
    pattern = re.compile(FORBIDDEN[reason], re.IGNORECASE)
    found = {
        str(path.relative_to(TEMPLATE_FOLDER)): match[0]
        for path in TEMPLATES
        for match in pattern.finditer(path.read_text())
    }
    assert not found


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_template_compiles(language: str) -> None:
    environment = make_pages(load_assets(), SystemClock()).environments[language]
    for path in TEMPLATES:
        environment.get_template(str(path.relative_to(TEMPLATE_FOLDER)))


def test_every_icon_that_a_template_names_exists() -> None:
    known = {path.stem for path in (TEMPLATE_FOLDER / "icons").glob("*.svg")}
    named = set()
    for path in TEMPLATES:
        named |= set(re.findall(r"\b_?icon\(\"([\w-]+)\"\)|\bicon=\"([\w-]+)\"", path.read_text()))
    names = {name for pair in named for name in pair if name}
    assert names
    assert names <= known


def test_scripts_hold_no_text_for_people() -> None:
    """Texts come from templates in `data-*` attributes: there they are translated."""
    pattern = re.compile(r"(?:textContent|title|ariaLabel)\s*=\s*[\"'`][A-Za-z]")
    assert [str(path) for path in _scripts() if pattern.search(path.read_text())] == []


def test_scripts_never_make_markup_from_text() -> None:
    pattern = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|new Function|\beval\(")
    allowed = 'morphStyle: "innerHTML"'
    assert [str(path) for path in _scripts() if pattern.search(path.read_text().replace(allowed, ""))] == []


def _scripts() -> list[Path]:
    return sorted(WEB.rglob("*.ts"))
