"""A project's keys follow it at once: to other regions, into the archive and out of it."""

import asyncio

from chappe_tenants.members.service import Role
from tests.keys.world import OLD, KeysWorld, Program


async def test_narrowing_a_project_narrows_its_keys(keys: KeysWorld, alice: Program) -> None:
    key = await alice.key()
    await alice.change(f"/projects/{alice.project}", regions=["fr-par"], name="French")
    facts = await keys.paris.resolve(key["secret"])
    assert facts is not None and facts.regions == ("fr-par",)
    await alice.change(f"/projects/{alice.project}", regions=None)
    facts = await keys.paris.resolve(key["secret"])
    assert facts is not None and facts.regions == ("fr-par", "de-fra")
    assert (await alice.get(f"/projects/{alice.project}"))["name"] == "French"


async def test_keys_of_an_archived_project_open_nothing_until_it_is_restored(keys: KeysWorld, alice: Program) -> None:
    project = await alice.make("/projects", name="old")
    key = await alice.key(project_id=project["id"])
    path = f"/projects/{project['id']}"
    assert (await alice.change(path, archived=True))["archived_at"] is not None
    assert not await keys.opens(key["secret"])
    for route, body in (
        ("/keys", {"name": "k", "project_id": project["id"]}),
        (f"/keys/{key['id']}/rotate", {}),
        ("/service-accounts", {"name": "s", "project_id": project["id"], "scopes": ["inference"]}),
    ):
        answer = await alice.call("POST", route, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "project_archived")
    assert (await alice.change(path, archived=False))["archived_at"] is None
    assert await keys.opens(key["secret"])


async def test_one_project_stays_open(keys: KeysWorld) -> None:
    mia, _ = await keys.member(Role.OWNER)
    for name in ("second", "third"):
        await mia.post_json("/api/v1/projects", {"name": name})
    projects = (await mia.get("/api/v1/projects")).json()["items"]
    headers = {"origin": mia.portal_url, "if-match": OLD}
    answers = await asyncio.gather(
        *(
            mia.request("PATCH", f"/api/v1/projects/{project['id']}", headers=headers, json={"archived": True})
            for project in projects
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 200, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"last_project"}


async def test_names_stay_unique_whoever_comes_first(alice: Program) -> None:
    made = [await alice.make("/projects", name=f"p{number}") for number in range(3)]
    answers = await asyncio.gather(
        *(alice.call("PATCH", f"/projects/{one['id']}", {"name": "same"}, if_match=OLD) for one in made),
        alice.call("POST", "/projects", {"name": "same"}),
    )
    assert sorted(answer.status_code for answer in answers)[1:] == [409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"name_taken"}


async def test_regions_outside_the_organisations_are_refused(alice: Program) -> None:
    answer = await alice.call("PATCH", f"/projects/{alice.project}", {"regions": ["us-east"]}, if_match=OLD)
    assert (answer.status_code, answer.json()["param"]) == (400, "regions")


async def test_tag_of_what_was_seen_is_needed(alice: Program) -> None:
    path = f"/projects/{alice.project}"
    seen = (await alice.call("GET", path)).headers["etag"]
    assert (await alice.call("PATCH", path, {"name": "x"})).status_code == 428
    assert (await alice.call("PATCH", path, {"name": "x"}, if_match=seen)).status_code == 200
    assert (await alice.call("PATCH", path, {"name": "y"}, if_match=seen)).status_code == 412
