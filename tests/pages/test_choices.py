"""Language and theme: the visitor's choice, then the browser's, and never a way off the site."""

import re

import pytest

from chappe_control.pages.languages import LANGUAGES, choose_language
from chappe_control.pages.theme import THEMES
from tests.pages.browser import Visitor


@pytest.mark.parametrize(
    ("cookie", "accepted", "chosen"),
    [
        (None, "", "en"),
        (None, "fr", "fr"),
        (None, "de-AT,de;q=0.9,en;q=0.8", "de"),
        (None, "es,it;q=0.9", "en"),
        (None, "es,fr;q=0.2,de;q=0.7", "de"),
        (None, "fr;q=0,de;q=0.1", "de"),
        (None, "fr;q=nonsense, de", "de"),
        (None, "*", "en"),
        (None, ",;;=,fr;q", "en"),
        ("de", "fr", "de"),
        ("xx", "fr", "fr"),
        ("", "fr", "fr"),
    ],
)
def test_language_is_the_first_that_we_speak(cookie: str | None, accepted: str, chosen: str) -> None:
    assert choose_language(cookie, accepted) == chosen


def test_a_very_long_header_costs_little() -> None:
    assert choose_language(None, "xx," * 100_000 + "fr") == "en"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("theme", THEMES)
async def test_choice_is_kept_and_written_into_the_page(visitor: Visitor, language: str, theme: str) -> None:
    await visitor.get("/show")
    answer = await visitor.post("/preferences", language=language, theme=theme, back="/show?sort=name")
    assert (answer.status_code, answer.headers["location"]) == (303, "/show?sort=name")
    text = (await visitor.get("/show")).text
    assert f'<html lang="{language}" data-bs-theme="{theme}">' in text
    assert re.search(rf'value="{language}"[^>]*aria-pressed="true"', text)
    assert re.search(rf'name="theme" value="{theme}" aria-pressed="true"', text)
    assert text.count('aria-pressed="true"') == 2


async def test_what_is_not_ours_changes_nothing(visitor: Visitor) -> None:
    await visitor.get("/show")
    answer = await visitor.post("/preferences", language="tlh", theme="<script>", back="/show")
    assert not [line for line in answer.headers.get_list("set-cookie") if "language" in line or "theme" in line]
    visitor.cookies["__Host-chappe-theme"] = '"><script>'
    assert 'data-bs-theme="auto"' in (await visitor.get("/show")).text


@pytest.mark.parametrize(
    "back",
    [
        *("//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", "\\\\evil", "", "keys"),
        "/%0d%0aa\r\nset-cookie: a=b",
    ],
)
async def test_the_way_back_never_leaves_the_site(visitor: Visitor, back: str) -> None:
    await visitor.get("/show")
    answer = await visitor.post("/preferences", theme="dark", back=back)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_preference_cookies_are_the_hosts_own(visitor: Visitor) -> None:
    await visitor.get("/show")
    answer = await visitor.post("/preferences", language="fr", theme="dark", back="/show")
    for line in answer.headers.get_list("set-cookie"):
        assert line.startswith("__Host-chappe-")
        assert "Secure" in line
        assert "Path=/" in line
        assert "SameSite=lax" in line


async def test_preferences_need_the_forms_token(visitor: Visitor) -> None:
    answer = await visitor.request(
        "POST", "/preferences", headers={"origin": visitor.portal_url, "accept": "text/html"}, data={"theme": "dark"}
    )
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("text/html")
