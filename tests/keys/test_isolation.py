"""Another organisation's key, project and service account do not exist, whatever is asked of them."""

from tests.keys.world import OLD, KeysWorld, Program


async def test_anothers_things_are_not_found_and_stay_as_they_are(
    keys: KeysWorld, alice: Program, bob: Program
) -> None:
    account = await bob.make("/service-accounts", name="s", project_id=bob.project, scopes=["inference"])
    key = await bob.key(service_account_id=account["id"])
    calls = [
        ("GET", f"/keys/{key['id']}", None),
        ("PATCH", f"/keys/{key['id']}", {"name": "mine"}),
        ("POST", f"/keys/{key['id']}/rotate", {}),
        ("DELETE", f"/keys/{key['id']}", None),
        ("GET", f"/projects/{bob.project}", None),
        ("PATCH", f"/projects/{bob.project}", {"archived": True}),
        ("GET", f"/service-accounts/{account['id']}", None),
        ("PATCH", f"/service-accounts/{account['id']}", {"name": "mine"}),
        ("DELETE", f"/service-accounts/{account['id']}", None),
        ("POST", "/keys", {"name": "k", "project_id": bob.project}),
        ("POST", "/keys", {"name": "k", "service_account_id": account["id"]}),
        ("POST", "/service-accounts", {"name": "k", "project_id": bob.project, "scopes": ["inference"]}),
    ]
    for method, path, body in calls:
        answer = await alice.call(method, path, body, if_match=OLD)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, path)
    assert await keys.opens(key["secret"])
    assert (await bob.get("/service-accounts"))["items"] == [account]
    assert (await alice.get("/service-accounts"))["items"] == []
    assert (await alice.get(f"/keys?project_id={bob.project}"))["items"] == []


async def test_names_and_ids_of_others_are_free(alice: Program, bob: Program) -> None:
    for program in (alice, bob):
        await program.make("/projects", name="same")
        await program.make("/service-accounts", name="same", project_id=program.project, scopes=["inference"])
