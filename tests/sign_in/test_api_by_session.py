"""Members call `/api/v1` with the portal's session, and nobody else's page does it for them."""

import pytest

from tests.pages.browser import PORTAL_URL
from tests.sign_in.site import Site


async def test_a_member_calls_the_api_with_the_portals_session(site: Site) -> None:
    member = site.visitor()
    await member.sign_up()
    listed = await member.get("/api/v1/projects")
    assert listed.status_code == 200
    body = {"name": "Second", "project_id": listed.json()["items"][0]["id"]}
    made = await member.post_json("/api/v1/keys", body)
    assert made.status_code == 201, made.text
    assert [key["name"] for key in (await member.get("/api/v1/keys")).json()["items"]] == ["Second"]


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null"])
async def test_another_sites_page_changes_nothing_with_a_members_cookie(site: Site, origin: str | None) -> None:
    member = site.visitor()
    await member.sign_up()
    headers = {} if origin is None else {"origin": origin}
    answer = await member.request("POST", "/api/v1/projects", headers=headers, json={"name": "Foreign"})
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")


async def test_a_bad_key_is_refused_whatever_cookie_comes_with_it(site: Site) -> None:
    member = site.visitor()
    await member.sign_up()
    headers = {"authorization": "Bearer ck_mNothing", "origin": PORTAL_URL}
    assert (await member.request("GET", "/api/v1/projects", headers=headers)).status_code == 401
