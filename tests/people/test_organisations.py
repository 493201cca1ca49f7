"""One account in several organisations: each has its own role, its own session and nothing of the others."""

from chappe_tenants.accounts.service import set_password
from chappe_tenants.members.service import Role
from tests.people.world import PeopleWorld, Person, copy_of


async def of_both(world: PeopleWorld) -> tuple[Person, Person]:
    """The same person in an organisation of their own, and in another as a viewer. They are signed in to the other."""
    own, other = await world.owner("Zulu"), await world.owner("alpha")
    return own, await world.join(await other.invite(own.email, Role.VIEWER), own.email, own.visitor)


def offered(person: Person, page: object) -> list[str]:
    return [button.text for button in page.all("button", name="organisation")]  # type: ignore[attr-defined]


async def test_the_header_offers_the_accounts_organisations_by_name(world: PeopleWorld) -> None:
    own, other = await of_both(world)
    page = await other.read("/overview")
    assert offered(own, page) == ["alpha", "Zulu"]
    (here,) = (button for button in page.all("button", name="organisation") if "aria-current" in button.attributes)
    assert here.text == "alpha"
    alone = await world.owner()
    assert offered(alone, await alone.read("/overview")) == []


async def test_each_organisation_has_its_own_role_and_rows(world: PeopleWorld) -> None:
    own, other = await of_both(world)
    assert (await other.visitor.get("/playground")).status_code == 403
    assert (await other.api("POST", "/projects", {"name": "theirs"})).status_code == 403
    back = await world.switch(other, own)
    assert back.tenant_id == own.tenant_id
    assert (await back.visitor.get("/playground")).status_code == 200
    assert (await back.api("POST", "/projects", {"name": "mine"})).status_code == 201
    there = await world.switch(back, other)
    assert "mine" not in [project["name"] for project in (await there.api("GET", "/projects")).json()["items"]]


async def test_switching_draws_a_new_secret_and_ends_the_session_before(world: PeopleWorld) -> None:
    own, other = await of_both(world)
    before = copy_of(other)
    await world.switch(other, own)
    assert other.visitor.cookies["__Host-chappe"] != before.visitor.cookies["__Host-chappe"]
    assert (await before.visitor.get("/overview")).headers["location"].startswith("/sign-in")


async def test_nobody_switches_to_where_they_do_not_belong(world: PeopleWorld) -> None:
    own, other = await of_both(world)
    stranger = await world.owner()
    for organisation in (stranger.organisation, "ten_nonsense", "", str(own.tenant_id)):
        answer = await other.visitor.post("/organisations/switch", organisation=organisation)
        assert answer.status_code == 404
    assert (await other.visitor.get("/overview")).status_code == 200


async def test_who_was_removed_from_one_stays_in_the_other(world: PeopleWorld) -> None:
    own, other = await of_both(world)
    phone = world.browser()
    await phone.sign_in(own.email)
    boss = await world.sql("SELECT id FROM member WHERE tenant_id = $1 AND role = 'owner'", other.tenant_id)
    assert len(boss) == 1
    await world.sql("DELETE FROM member WHERE id = $1", other.member_id)
    assert (await other.visitor.get("/overview")).headers["location"].startswith("/sign-in")
    await other.visitor.sign_in(own.email)
    assert (await world.person(other.visitor, own.email)).tenant_id == own.tenant_id
    assert offered(own, await other.read("/overview")) == []


async def test_a_sign_in_opens_what_was_open_last(world: PeopleWorld) -> None:
    own, other = await of_both(world)
    for wanted in (other, own, other):
        present = await world.person(own.visitor, own.email)
        if present.tenant_id != wanted.tenant_id:
            await world.switch(present, wanted)
        phone = world.browser()
        await phone.sign_in(own.email)
        members = (await Person(phone, own.email, own.tenant_id, own.member_id).api("GET", "/members")).json()["items"]
        assert wanted.id in [member["id"] for member in members]


async def test_an_organisation_that_is_closed_is_passed_over(world: PeopleWorld) -> None:
    own, other = await of_both(world)
    await world.sql("UPDATE tenant SET state = 'closed' WHERE id = $1", other.tenant_id)
    await own.visitor.sign_in(own.email)
    assert (await world.person(own.visitor, own.email)).tenant_id == own.tenant_id
    answer = await own.visitor.post("/organisations/switch", organisation=other.organisation)
    assert answer.headers["location"] == "/overview"
    assert "This organisation is not active." in (await own.visitor.get("/overview")).text


async def test_a_new_password_ends_the_sessions_in_every_organisation(world: PeopleWorld) -> None:
    own, other = await of_both(world)
    phone = world.browser()
    await phone.sign_in(own.email)
    await world.switch(other, own)
    ((account_id,),) = await world.sql("SELECT id FROM account WHERE email = $1", own.email)
    async with world.database.operator() as session:
        await set_password(session, account_id, "$argon2id$x")
    for visitor in (phone, own.visitor):
        assert (await visitor.get("/overview")).headers["location"].startswith("/sign-in")
