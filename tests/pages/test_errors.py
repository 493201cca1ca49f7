"""An error on a page is a page: with the status of the problem, in the visitor's language, and without a detail."""

import pytest

from chappe_control.pages.errors import _TEXTS
from chappe_control.pages.languages import LANGUAGES, translate_into
from tests.pages.browser import Visitor

STATUSES = {
    "invalid": 400, "unauthenticated": 401, "insufficient": 402, "denied": 403, "missing": 404, "conflict": 409,
    "large": 413, "limit": 429, "bug": 500, "away": 503, "database": 503, "connection": 503,
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("name", "status"), STATUSES.items())
async def test_error_is_a_page_in_the_visitors_language(
    visitor: Visitor, name: str, status: int, language: str
) -> None:
    visitor.language = language
    answer = await visitor.get(f"/raise/{name}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    title, _ = _TEXTS[status]
    assert f"<h1>{translate_into(language, title)}</h1>" in answer.text
    assert f'<html lang="{language}"' in answer.text
    assert "secret" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_unknown_path_and_method_are_pages_too(visitor: Visitor) -> None:
    missing = await visitor.get("/nowhere")
    assert (missing.status_code, "<h1>Page not found</h1>" in missing.text) == (404, True)
    await visitor.get("/show")
    wrong = await visitor.post("/show")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, OPTIONS")
    assert "<h1>This cannot be done here</h1>" in wrong.text


async def test_too_large_a_form_is_413(visitor: Visitor) -> None:
    await visitor.get("/show")
    answer = await visitor.post("/preferences", back="x" * 70_000)
    assert answer.status_code == 413
    assert "<h1>This is too large</h1>" in answer.text


async def test_wait_is_told_to_programs(visitor: Visitor) -> None:
    assert (await visitor.get("/raise/limit")).headers["retry-after"] == "7"
    assert (await visitor.get("/raise/away")).headers["retry-after"] == "1"


async def test_scripts_and_programs_get_the_problem(visitor: Visitor) -> None:
    for accepted in ("application/json", "*/*"):
        answer = await visitor.request("GET", "/raise/missing", headers={"accept": accepted})
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "not_found"


async def test_foreign_form_is_a_page_of_403(visitor: Visitor) -> None:
    await visitor.get("/show")
    token = await visitor.csrf_token()
    for headers, fields in (
        ({"origin": "https://evil.example"}, {"_csrf_token": token}),
        ({"origin": visitor.portal_url}, {"_csrf_token": "forged"}),
        ({"origin": visitor.portal_url}, {}),
        ({}, {"_csrf_token": token}),
    ):
        answer = await visitor.request("POST", "/preferences", headers={"accept": "text/html", **headers}, data=fields)
        assert answer.status_code == 403
        assert "<h1>This was not accepted</h1>" in answer.text


async def test_error_page_leads_home(visitor: Visitor) -> None:
    assert 'href="/"' in (await visitor.get("/nowhere")).text
    assert 'href="/console"' in (await visitor.get("/console/nowhere")).text
