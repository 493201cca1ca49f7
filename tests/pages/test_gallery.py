"""The gallery shows every component, to operators only."""

import re

import pytest

from chappe_control.pages.languages import LANGUAGES
from chappe_control.pages.render import TEMPLATE_FOLDER
from tests.pages.browser import Visitor
from tests.sign_in.site import OPERATOR, Site


def test_gallery_uses_every_component() -> None:
    components = (TEMPLATE_FOLDER / "components.html").read_text()
    shown = "".join(path.read_text() for path in (TEMPLATE_FOLDER / "gallery").glob("*.html")) + components
    macros = [name for name in re.findall(r"{% macro (\w+)\(", components) if not name.startswith("_")]
    assert len(macros) > 15
    for name in macros:
        assert re.search(rf"(?:ui\.|{{{{ ){name}\(", shown), name


@pytest.mark.parametrize("language", LANGUAGES)
async def test_gallery_is_whole_in_every_language(visitor: Visitor, language: str) -> None:
    visitor.language = language
    answer = await visitor.get("/show")
    assert answer.status_code == 200
    assert answer.text.count("<h1>") == 1
    assert answer.text.rstrip().endswith("</html>")
    ids = re.findall(r'\sid="([^"]+)"', answer.text)
    assert len(ids) == len(set(ids)), "an id is there twice"
    for name in re.findall(
        r'(?:aria-labelledby|aria-controls|popovertarget|data-opens|data-copies|for)="([^"]+)"', answer.text
    ):
        assert name in ids, name


async def test_gallery_is_for_administrators(site: Site, administrator: Visitor) -> None:
    stranger = site.visitor()
    assert (await stranger.get("/console/gallery")).headers["location"] == "/console/sign-in?next=/console/gallery"
    member, _ = await site.member()
    assert (await member.get("/console/gallery")).status_code == 303
    supporter = site.visitor()
    await supporter.console_sign_in(OPERATOR)
    assert (await supporter.get("/console/gallery")).status_code == 403
    assert (await administrator.get("/console/gallery")).status_code == 200
    assert (await administrator.live("/console/gallery/live", "/console/gallery")).status_code == 200
