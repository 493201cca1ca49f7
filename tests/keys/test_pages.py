"""The pages of keys and projects do what the API does, for those who may, and show nobody else's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chappe_tenants.members.service import Role
from tests.keys.test_owners import make
from tests.keys.world import KeysWorld
from tests.pages.browser import Visitor
from tests.portal.reading import Element, read_page


@pytest.fixture
async def mia(keys: KeysWorld) -> Visitor:
    visitor, _ = await keys.member(Role.OWNER)
    return visitor


async def read(visitor: Visitor, path: str, status: int = 200) -> Element:
    answer = await visitor.get(path)
    assert answer.status_code == status, (path, answer.text[:400])
    return read_page(answer.text)


async def hidden(visitor: Visitor, path: str, form: str) -> dict[str, str]:
    fields = (await read(visitor, path)).by_id(form).all("input", type="hidden")
    return {
        field.attributes["name"]: field.attributes["value"]
        for field in fields
        if field.attributes["name"] != "_csrf_token"
    }


async def api(visitor: Visitor, path: str) -> Any:
    return (await visitor.get(f"/api/v1{path}")).json()


async def test_a_new_key_is_tied_as_the_form_says(keys: KeysWorld, mia: Visitor) -> None:
    day = (datetime.now(UTC) + timedelta(days=9)).date().isoformat()
    answer = await mia.post(
        "/keys", name="job", kind="inference", owner="me", networks="192.0.2.7\n2001:db8::/32", expires_at=day
    )
    assert answer.status_code == 201, answer.text
    (key,) = (await api(mia, "/keys"))["items"]
    assert key["networks"] == ["192.0.2.7/32", "2001:db8::/32"]
    assert key["expires_at"] == f"{day}T23:59:59Z"
    assert key["owner"]["kind"] == "member"
    row = (await read(mia, "/keys")).by_id(key["id"])
    assert "yours" in row.text and "Ends" in row.text


async def test_wrong_ties_are_said_at_their_fields(mia: Visitor) -> None:
    for name, value in (("networks", "nowhere"), ("expires_at", "2020-01-01"), ("expires_at", "x"), ("owner", "sva_x")):
        answer = await mia.post("/keys", name="k", kind="inference", **{name: value})
        assert answer.status_code == 400
        page = read_page(answer.text)
        assert page.by_id(f"{name}-error").text
        assert (await api(mia, "/keys"))["items"] == []


async def test_a_key_is_changed_on_its_page(keys: KeysWorld, mia: Visitor) -> None:
    end = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    key = await make(mia, networks=["192.0.2.0/24"], expires_at=end)
    path = f"/keys/{key['id']}"
    page = await read(mia, path)
    assert page.by_id("networks").exact_text.strip() == "192.0.2.0/24"
    form = await hidden(mia, path, "change-form")
    fields = {"name": "renamed", "networks": "", "expires_at": key["expires_at"][:10], "regions": "de-fra"}
    answer = await mia.post(path, **form, **fields)
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    now = await api(mia, path)
    assert (now["name"], now["networks"], now["regions"]) == ("renamed", None, ["de-fra"])
    assert now["expires_at"] == key["expires_at"], "an hour that the form cannot show is kept"
    stale = await mia.post(path, **form, **fields | {"name": "lost update"})
    assert stale.status_code == 303
    assert "meanwhile" in (await mia.open(path)).text
    assert (await api(mia, path))["name"] == "renamed"
    fresh = await hidden(mia, path, "change-form")
    bad = await mia.post(path, **fresh, **fields | {"networks": "nowhere"})
    assert (bad.status_code, bool(read_page(bad.text).by_id("networks-error").text)) == (400, True)


async def test_a_key_is_rotated_on_its_page_once_per_form(keys: KeysWorld, mia: Visitor) -> None:
    key = await make(mia)
    path = f"/keys/{key['id']}"
    form = await hidden(mia, path, "rotate-form")
    first = await mia.post(f"{path}/rotate", **form, overlap="0")
    assert (first.status_code, first.headers["cache-control"]) == (201, "no-store")
    secret = read_page(first.text).by_id("secret").exact_text
    assert [await keys.opens(one) for one in (key["secret"], secret)] == [False, True]
    again = await mia.post(f"{path}/rotate", **form, overlap="0")
    assert (again.status_code, again.headers["location"]) == (303, path)
    assert len((await api(mia, "/keys"))["items"]) == 2
    assert "Expired" in (await read(mia, path)).text


async def test_projects_are_made_changed_archived_and_restored(keys: KeysWorld, mia: Visitor) -> None:
    made = await mia.post("/projects", name="Second", regions="de-fra")
    assert made.status_code == 303
    path = made.headers["location"]
    assert (await api(mia, path))["regions"] == ["de-fra"]
    assert (await mia.post("/projects", name="Second")).status_code == 409
    assert (await mia.post("/projects", name=" ")).status_code == 400
    form = await hidden(mia, path, "change-form")
    assert (await mia.post(path, **form, name="Renamed")).status_code == 303
    project = await api(mia, path)
    assert (project["name"], project["regions"]) == ("Renamed", None)
    assert (await mia.post(path, **form, name="lost update")).status_code == 303
    assert (await api(mia, path))["name"] == "Renamed"
    key = await make(mia, project_id=project["id"])
    assert (await mia.post(f"{path}/archive")).status_code == 303
    assert not await keys.opens(key["secret"])
    assert "Archived" in (await read(mia, "/projects")).by_id(project["id"]).text
    assert "Project archived" in (await read(mia, "/keys")).by_id(key["id"]).text
    assert "restored" in (await read(mia, f"/keys/{key['id']}")).text
    assert (await mia.post(f"{path}/restore")).status_code == 303
    assert await keys.opens(key["secret"])


async def test_the_last_open_project_is_kept(mia: Visitor) -> None:
    (project,) = (await api(mia, "/projects"))["items"]
    answer = await mia.post(f"/projects/{project['id']}/archive")
    assert answer.status_code == 303
    assert "keeps one project" in (await mia.open(f"/projects/{project['id']}")).text
    assert (await api(mia, f"/projects/{project['id']}"))["archived_at"] is None


async def test_service_accounts_live_on_their_projects_page(keys: KeysWorld, mia: Visitor) -> None:
    (project,) = (await api(mia, "/projects"))["items"]
    path = f"/projects/{project['id']}"
    assert (await mia.post(f"{path}/service-accounts", account_name="nightly", scopes="both")).status_code == 303
    assert (await mia.post(f"{path}/service-accounts", account_name="nightly", scopes="both")).status_code == 409
    (account,) = (await api(mia, "/service-accounts"))["items"]
    made = await mia.post("/keys", name="k", kind="inference", owner=account["id"])
    secret = read_page(made.text).by_id("secret").exact_text
    assert "nightly" in (await read(mia, "/keys")).by_id("keys-table").text
    assert (await mia.post(f"{path}/service-accounts/{account['id']}/remove")).status_code == 303
    assert not await keys.opens(secret)


async def test_another_organisations_pages_are_not_found(keys: KeysWorld, mia: Visitor) -> None:
    other, _ = await keys.member(Role.OWNER)
    key = await make(other)
    account = (
        await other.post_json(
            "/api/v1/service-accounts", {"name": "s", "project_id": key["project_id"], "scopes": ["inference"]}
        )
    ).json()
    project = f"/projects/{key['project_id']}"
    for path in (f"/keys/{key['id']}", project, "/keys/key_x", "/projects/prj_x"):
        assert (await mia.get(path)).status_code == 404
        assert (await mia.post(path, name="mine", seen="x")).status_code == 404
    for path in (
        f"/keys/{key['id']}/rotate",
        f"{project}/archive",
        f"{project}/restore",
        f"{project}/service-accounts",
        f"{project}/service-accounts/{account['id']}/remove",
    ):
        assert (await mia.post(path, account_name="mine", scopes="inference")).status_code == 404
    assert await keys.opens(key["secret"])


async def test_who_may_only_look_sees_no_form(keys: KeysWorld) -> None:
    someone, scope = await keys.member(Role.OWNER)
    key, management = await make(someone), await make(someone, kind="management")
    for role, inference_form, management_form in ((Role.DEVELOPER, True, False), (Role.VIEWER, False, False)):
        await keys.sql(
            "SET session_replication_role = replica",
            f"UPDATE member SET role = '{role}' WHERE tenant_id = '{scope.tenant_id}'",
        )
        assert (await read(someone, f"/keys/{key['id']}")).has("change-form") == inference_form
        assert (await read(someone, f"/keys/{management['id']}")).has("change-form") == management_form
        assert not (await read(someone, f"/projects/{key['project_id']}")).has("change-form")
        answer = await someone.post("/keys", name="k", kind="management")
        assert answer.status_code == 403
