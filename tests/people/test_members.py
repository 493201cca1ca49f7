"""Roles count at once, are given by whom they may be given, and leave an owner in every organisation."""

import asyncio
import itertools
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_kernel.ids import TenantId
from chappe_store.queries import read_keys_revision
from chappe_store.session import TenantScope
from chappe_tenants.members.service import Role, may_give
from tests.people.world import PeopleWorld, Person, new_address

NO_OWNER = [role for role in Role if role is not Role.OWNER]


@pytest.mark.parametrize(("giver", "role"), list(itertools.product(Role, Role)))
def test_only_owners_give_and_take_the_role_of_owners(giver: Role, role: Role) -> None:
    assert may_give(giver, role) == (giver is Role.OWNER or role is not Role.OWNER)


async def test_members_see_each_other_and_nobody_elses(world: PeopleWorld) -> None:
    owner, stranger = await world.owner(), await world.owner()
    viewer = await world.colleague(owner, Role.VIEWER)
    listed = (await viewer.api("GET", "/members")).json()
    assert [(one["email"], one["role"]) for one in listed["items"]] == [
        (viewer.email, "viewer"),
        (owner.email, "owner"),
    ]
    assert (await viewer.api("GET", f"/members/{owner.id}")).json()["id"] == owner.id
    for method, path in (("GET", f"/members/{owner.id}"), ("DELETE", f"/members/{owner.id}")):
        assert (await stranger.api(method, path)).status_code == 404
    changed = await stranger.api("PATCH", f"/members/{owner.id}", {"role": "viewer"}, if_match="*")
    assert changed.status_code == 404
    assert (await owner.api("GET", "/members/mem_nonsense")).status_code == 404


async def test_a_list_goes_on_where_its_page_ended(world: PeopleWorld) -> None:
    owner = await world.owner()
    people = [owner, *[await world.colleague(owner) for _ in range(2)]]
    first = (await owner.api("GET", "/members?limit=2")).json()
    second = (await owner.api("GET", f"/members?limit=2&cursor={first['next_cursor']}")).json()
    assert [one["id"] for one in first["items"] + second["items"]] == [one.id for one in reversed(people)]
    assert second["next_cursor"] is None


async def test_a_role_counts_from_the_next_request_on(world: PeopleWorld) -> None:
    owner = await world.owner()
    colleague = await world.colleague(owner, Role.DEVELOPER)
    assert (await colleague.visitor.get("/playground")).status_code == 200
    assert (await owner.change(colleague, Role.BILLING)).status_code == 200
    assert (await colleague.visitor.get("/playground")).status_code == 403
    assert (await colleague.api("GET", "/keys")).status_code == 403
    assert (await owner.change(colleague, Role.ADMIN)).status_code == 200
    assert (await colleague.api("GET", "/invitations")).status_code == 200


async def test_a_change_says_what_it_has_seen(world: PeopleWorld) -> None:
    owner = await world.owner()
    colleague = await world.colleague(owner)
    path = f"/members/{colleague.id}"
    assert (await owner.api("PATCH", path, {"role": "viewer"})).status_code == 428
    before = (await owner.api("GET", path)).headers["etag"]
    await colleague.visitor.sign_in(colleague.email)
    changed = await owner.api("PATCH", path, {"role": "viewer"}, if_match=before)
    assert changed.status_code == 200, "that they signed in meanwhile is no change"
    assert changed.headers["etag"] == (await owner.api("GET", path)).headers["etag"] != before
    assert (await owner.api("PATCH", path, {"role": "admin"}, if_match=before)).status_code == 412
    for body in ({"role": "root"}, {"role": "viewer", "email": "x@example.eu"}, {}):
        assert (await owner.api("PATCH", path, body, if_match="*")).status_code == 400


async def test_an_admin_makes_no_owner_and_touches_none(world: PeopleWorld) -> None:
    owner = await world.owner()
    admin = await world.colleague(owner, Role.ADMIN)
    colleague = await world.colleague(owner)
    for other, role in ((colleague, Role.OWNER), (admin, Role.OWNER), (owner, Role.VIEWER)):
        refused = await admin.change(other, role)
        assert (refused.status_code, refused.json()["code"]) == (403, "owners_only")
    refused = await admin.api("DELETE", f"/members/{owner.id}")
    assert (refused.status_code, refused.json()["code"]) == (403, "owners_only")
    refused = await admin.api("POST", "/invitations", {"email": new_address(), "role": "owner"})
    assert (refused.status_code, refused.json()["code"]) == (403, "owners_only")
    page = await admin.read(f"/members/{owner.id}")
    assert not page.has("role-form") and not page.has("remove")
    answer = await admin.visitor.post(f"/members/{owner.id}", role="viewer")
    assert (answer.status_code, answer.headers["location"]) == (303, "/members")
    assert await role_of(world, owner) == "owner"


@pytest.mark.parametrize("role", [role for role in NO_OWNER if role is not Role.ADMIN])
async def test_who_does_not_manage_members_changes_nobody(world: PeopleWorld, role: Role) -> None:
    owner = await world.owner()
    somebody, other = await world.colleague(owner, role), await world.colleague(owner)
    for method, path, body in (
        ("PATCH", f"/members/{other.id}", {"role": "viewer"}),
        ("PATCH", f"/members/{somebody.id}", {"role": "admin"}),
        ("DELETE", f"/members/{other.id}", None),
        ("POST", "/invitations", {"email": new_address(), "role": "viewer"}),
        ("GET", "/invitations", None),
    ):
        assert (await somebody.api(method, path, body, if_match="*")).status_code == 403
    page = await somebody.read("/members")
    assert not page.has("invite") and not page.has("invitations")
    assert (await somebody.visitor.get(f"/members/{other.id}")).status_code == 403
    assert (await somebody.visitor.post(f"/members/{other.id}/remove")).status_code == 403


async def test_a_management_key_manages_no_members(world: PeopleWorld) -> None:
    owner = await world.owner()
    project = (await owner.api("GET", "/projects")).json()["items"][0]["id"]
    made = await owner.api("POST", "/keys", {"name": "m", "kind": "management", "project_id": project})
    headers = {"authorization": f"Bearer {made.json()['secret']}"}
    assert (await world.http.get("/api/v1/members", headers=headers)).status_code == 200
    body = {"email": new_address(), "role": "viewer"}
    assert (await world.http.post("/api/v1/invitations", headers=headers, json=body)).status_code == 403
    assert (await world.http.delete(f"/api/v1/members/{owner.id}", headers=headers)).status_code == 403


async def test_the_last_owner_stays(world: PeopleWorld) -> None:
    owner = await world.owner()
    await world.colleague(owner, Role.ADMIN)
    refused = [
        await owner.change(owner, Role.ADMIN),
        await owner.api("DELETE", f"/members/{owner.id}"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(409, "last_owner")] * 2
    for path in ("/members/leave", f"/members/{owner.id}/remove"):
        assert (await owner.visitor.post(path)).headers["location"] == "/members"
        assert "keeps at least one owner" in (await owner.visitor.get("/members")).text
    second = await world.colleague(owner, Role.OWNER)
    assert (await owner.change(owner, Role.ADMIN)).status_code == 200
    assert await role_of(world, second) == "owner"


@pytest.mark.parametrize("change", ["UPDATE member SET role = 'admin'", "DELETE FROM member"])
async def test_the_database_keeps_an_owner_by_itself(world: PeopleWorld, change: str) -> None:
    owner = await world.owner()
    await world.colleague(owner, Role.ADMIN)
    for transaction in (world.database.tenant(TenantScope(TenantId(owner.tenant_id))), world.database.operator()):
        with pytest.raises(DBAPIError, match="at least one owner"):
            async with transaction as session:
                await session.execute(text(f"{change} WHERE tenant_id = :tenant"), {"tenant": owner.tenant_id})
    assert await role_of(world, owner) == "owner"


async def test_owners_who_unmake_each_other_at_once_leave_one(world: PeopleWorld) -> None:
    for _ in range(3):
        first = await world.owner()
        second = await world.colleague(first, Role.OWNER)
        answers = await asyncio.gather(
            first.api("PATCH", f"/members/{second.id}", {"role": "viewer"}, if_match="*"),
            second.api("PATCH", f"/members/{first.id}", {"role": "viewer"}, if_match="*"),
            first.api("DELETE", f"/members/{second.id}"),
            second.api("DELETE", f"/members/{first.id}"),
        )
        assert all(answer.status_code < 500 for answer in answers)
        left = "SELECT count(*) FROM member WHERE tenant_id = $1 AND role = 'owner'"
        assert await world.sql(left, first.tenant_id) == [(1,)]


async def test_the_database_alone_stands_two_owners_who_go_at_once(world: PeopleWorld) -> None:
    """Without the service's lock: the trigger's own."""
    first = await world.owner()
    second = await world.colleague(first, Role.OWNER)

    async def go(person: Person) -> bool:
        try:
            async with world.database.tenant(TenantScope(TenantId(person.tenant_id))) as session:
                await session.execute(text("DELETE FROM member WHERE id = :id"), {"id": person.member_id})
                await asyncio.sleep(0.05)
        except DBAPIError:
            return False
        return True

    assert sorted(await asyncio.gather(go(first), go(second))) == [False, True]


async def test_who_is_removed_is_out_at_once(world: PeopleWorld) -> None:
    owner = await world.owner()
    colleague = await world.colleague(owner)
    other_browser = replace(colleague, visitor=world.browser())
    await other_browser.visitor.sign_in(colleague.email)
    assert (await colleague.visitor.post_json("/playground/token")).status_code == 201
    async with world.database.operator() as session:
        revision = await read_keys_revision(session)
    assert (await owner.api("DELETE", f"/members/{colleague.id}")).status_code == 204
    for gone in (colleague, other_browser):
        assert (await gone.visitor.get("/overview")).headers["location"].startswith("/sign-in")
        assert (await gone.api("GET", "/members")).status_code == 401
    tokens = "SELECT count(*) FROM browser_token WHERE tenant_id = $1"
    assert await world.sql(tokens, owner.tenant_id) == [(0,)]
    async with world.database.operator() as session:
        assert await read_keys_revision(session) > revision, "gateways hear of it"
    refused = await colleague.visitor.post("/sign-in", email=colleague.email, password="tidal lantern mosaic 42")
    assert refused.status_code == 403
    assert "no organisation any more" in refused.text
    assert (await owner.api("DELETE", f"/members/{colleague.id}")).status_code == 404


@pytest.mark.parametrize("role", NO_OWNER)
async def test_everybody_may_leave(world: PeopleWorld, role: Role) -> None:
    owner = await world.owner()
    colleague = await world.colleague(owner, role)
    answer = await colleague.visitor.post("/members/leave")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert (await colleague.visitor.get("/overview")).headers["location"].startswith("/sign-in")
    assert [one["email"] for one in (await owner.api("GET", "/members")).json()["items"]] == [owner.email]


async def test_the_page_changes_and_removes(world: PeopleWorld) -> None:
    owner = await world.owner()
    colleague = await world.colleague(owner)
    page = await owner.read("/members")
    rows = page.by_id("members-table").rows()
    assert [row[:2] for row in rows] == [[colleague.email, "Developer"], [f"{owner.email} you", "Owner"]]
    form = (await owner.read(f"/members/{colleague.id}")).by_id("role-form")
    assert form.one("input", checked="").attributes["value"] == "developer"
    await owner.visitor.post(f"/members/{colleague.id}", role="viewer")
    assert "has the role “Viewer” now" in (await owner.read("/members")).text
    await owner.visitor.post(f"/members/{colleague.id}/remove")
    assert f"{colleague.email} is not a member any more" in (await owner.read("/members")).text
    assert (await owner.visitor.get(f"/members/{colleague.id}")).status_code == 404


async def test_the_organisations_log_tells_of_its_people(world: PeopleWorld) -> None:
    owner = await world.owner()
    colleague = await world.colleague(owner)
    await owner.change(colleague, Role.VIEWER)
    await owner.api("DELETE", f"/members/{colleague.id}")
    entries = (await owner.api("GET", "/audit?limit=5")).json()["items"]
    told = [(entry["noun"], entry["action"], entry["actor"]["kind"], entry["actor"]["id"]) for entry in entries]
    assert told == [
        ("member", "removed", "member", owner.id),
        ("member", "changed", "member", owner.id),
        ("member", "created", "sign_up", colleague.id),
        ("invitation", "removed", "sign_up", colleague.id),
        ("invitation", "created", "member", owner.id),
    ]
    assert entries[1]["before"] == {"role": "developer"} and entries[1]["after"] == {"role": "viewer"}
    assert entries[0]["before"]["email"] == colleague.email
    assert entries[4]["after"]["digest"] == "withheld"


async def test_a_changed_address_is_changed_in_every_organisation_and_told_there(world: PeopleWorld) -> None:
    owner, other = await world.owner(), await world.owner()
    await world.join(await other.invite(owner.email), owner.email, owner.visitor)
    address = new_address()
    async with world.database.operator() as session:
        await session.execute(
            text("UPDATE account SET email = :new WHERE email = :old"), {"new": address, "old": owner.email}
        )
    assert await world.sql("SELECT count(*) FROM member WHERE email = $1", address) == [(2,)]
    newest = (await other.api("GET", "/audit?limit=1")).json()["items"][0]
    assert (newest["before"], newest["after"]) == ({"email": owner.email}, {"email": address})


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM account",
        "INSERT INTO account (id, email, password_hash) VALUES (uuidv7(), 'x@x', '$argon2id$x')",
        "UPDATE account SET password_hash = '$argon2id$x'",
        "UPDATE member SET email = 'x@x'",
        "UPDATE member SET account_id = id",
        "INSERT INTO member SELECT tenant_id, uuidv7(), email, role FROM member",
        "SELECT digest FROM invitation",
        "UPDATE invitation SET role = 'owner'",
    ],
)
async def test_tenants_role_lacks_what_it_must_not_have(world: PeopleWorld, statement: str) -> None:
    owner = await world.owner()
    with pytest.raises(DBAPIError, match="permission denied"):
        async with world.database.tenant(TenantScope(TenantId(owner.tenant_id))) as session:
            await session.execute(text(statement))


async def role_of(world: PeopleWorld, person: Person) -> str:
    ((role,),) = await world.sql("SELECT role FROM member WHERE id = $1", person.member_id)
    return str(role)
