"""An invitation is good for one address, once, within seven days, and for nothing that whoever gave it may not give."""

import asyncio
import hashlib
from dataclasses import replace

import httpx
import pytest

from chappe_tenants.members.service import Role
from tests import letters
from tests.control.conftest import serve
from tests.control.world import HandClock
from tests.pages.browser import PASSWORD, Visitor
from tests.people.world import PeopleWorld, new_address, secret_in, secret_sent_to
from tests.portal.reading import read_page

OVER = "This invitation is over"


async def test_somebody_new_gets_an_account_and_the_role_that_was_given(world: PeopleWorld) -> None:
    owner, email = await world.owner("Société Exemple"), new_address()
    secret = await owner.invite(email, Role.BILLING)
    visitor = world.browser()
    page = read_page((await visitor.get(f"/join?link={secret}")).text)
    assert page.one("h1").text == "Join Société Exemple"
    assert page.by_id("email").attributes["value"] == email and "readonly" in page.by_id("email").attributes
    assert page.by_id("password").attributes["autocomplete"] == "new-password"
    joined = await world.join(secret, email, visitor)
    assert joined.tenant_id == owner.tenant_id
    assert "Welcome to Société Exemple!" in (await visitor.get("/overview")).text
    ((role,),) = await world.sql("SELECT role FROM member WHERE id = $1", joined.member_id)
    assert role == "billing"
    assert "__Host-chappe-device" in visitor.cookies, "this browser is known to the account from now on"
    await world.browser().sign_in(email)


async def test_who_has_an_account_shows_it_with_their_password(world: PeopleWorld) -> None:
    owner, invited = await world.owner(), await world.owner()
    secret = await owner.invite(invited.email, Role.VIEWER)
    visitor = world.browser()
    page = read_page((await visitor.get(f"/join?link={secret}")).text)
    assert page.by_id("password").attributes["autocomplete"] == "current-password"
    refused = await visitor.post("/join", link=secret, password="not the password 1")
    assert refused.status_code == 403
    assert "The password is wrong." in refused.text and "__Host-chappe" not in visitor.cookies
    before = await world.count("account")
    joined = await world.join(secret, invited.email, visitor)
    assert joined.tenant_id == owner.tenant_id
    assert await world.count("account") == before
    assert (await invited.visitor.get("/overview")).status_code == 200, "other sessions go on"


async def test_who_is_signed_in_accepts_with_a_click(world: PeopleWorld) -> None:
    owner, invited = await world.owner(), await world.owner()
    secret = await owner.invite(invited.email)
    page = read_page((await invited.visitor.get(f"/join?link={secret}")).text)
    assert not page.has("password")
    answer = await invited.visitor.post("/join", link=secret)
    assert answer.status_code == 303
    joined = await world.person(invited.visitor, invited.email)
    assert joined.tenant_id == owner.tenant_id
    assert (await invited.api("GET", "/members")).json()["items"][0]["email"] == invited.email


async def test_another_account_than_the_invited_accepts_nothing_with_its_session(world: PeopleWorld) -> None:
    owner, somebody, email = await world.owner(), await world.owner(), new_address()
    secret = await owner.invite(email)
    page = await somebody.read(f"/join?link={secret}")
    assert somebody.email in page.text and page.has("password")
    assert (await somebody.visitor.post("/join", link=secret)).status_code == 422
    left = await world.person(somebody.visitor, somebody.email)
    assert left.tenant_id == somebody.tenant_id
    joined = await world.join(secret, email, somebody.visitor)
    assert joined.email == email and joined.tenant_id == owner.tenant_id
    sessions = "SELECT count(*) FROM member_session WHERE member_id = $1"
    assert await world.sql(sessions, somebody.member_id) == [(0,)], "the browser has one session"


@pytest.mark.parametrize("password", ["", "short", "password1234"])
async def test_a_new_password_must_be_one(world: PeopleWorld, password: str) -> None:
    owner, email = await world.owner(), new_address()
    secret = await owner.invite(email)
    answer = await world.browser().post("/join", link=secret, password=password)
    assert answer.status_code == 422
    assert read_page(answer.text).has("password-error")
    assert await world.sql("SELECT count(*) FROM account WHERE email = $1", email) == [(0,)]
    await world.join(secret, email)


async def test_a_link_works_once(world: PeopleWorld) -> None:
    owner, email = await world.owner(), new_address()
    secret = await owner.invite(email)
    await world.join(secret, email)
    await expect_over(world, secret)


async def test_two_who_accept_at_once_make_one_member(world: PeopleWorld) -> None:
    owner, email = await world.owner(), new_address()
    secret = await owner.invite(email)
    visitors = [world.browser() for _ in range(4)]
    for visitor in visitors:
        await visitor.csrf_token()
    answers = await asyncio.gather(*(visitor.post("/join", link=secret, password=PASSWORD) for visitor in visitors))
    assert {answer.status_code for answer in answers} <= {303, 409, 410}
    assert [answer.status_code for answer in answers].count(303) == 1
    assert await world.sql("SELECT count(*) FROM member WHERE email = $1", email) == [(1,)]


async def test_a_link_is_over_after_seven_days(world: PeopleWorld) -> None:
    owner, email = await world.owner(), new_address()
    secret = await owner.invite(email)
    lives = "SELECT expires_at - sent_at = interval '7 days' FROM invitation WHERE email = $1"
    assert await world.sql(lives, email) == [(True,)]
    await age(world, email, "7 days")
    await expect_over(world, secret)
    (listed,) = (await owner.api("GET", "/invitations")).json()["items"]
    assert listed["expired"] is True
    assert "Expired" in (await owner.read("/members")).by_id("invitations-table").text


async def test_a_withdrawn_link_is_over(world: PeopleWorld) -> None:
    owner, email = await world.owner(), new_address()
    secret = await owner.invite(email)
    (listed,) = (await owner.api("GET", "/invitations")).json()["items"]
    assert (await owner.api("DELETE", f"/invitations/{listed['id']}")).status_code == 204
    assert (await owner.api("DELETE", f"/invitations/{listed['id']}")).status_code == 404
    await expect_over(world, secret)
    await world.join(await owner.invite(email), email)


async def test_a_link_that_was_sent_again_replaces_the_one_before(world: PeopleWorld) -> None:
    owner, email = await world.owner(), new_address()
    first = await owner.invite(email)
    (listed,) = (await owner.api("GET", "/invitations")).json()["items"]
    path = f"/invitations/{listed['id']}/send"
    refused = await owner.api("POST", path)
    assert (refused.status_code, refused.json()["code"]) == (429, "sent_lately"), "the mailbox is somebody else's"
    assert int(refused.headers["retry-after"]) >= 1
    await age(world, email, "8 days")
    again = await owner.api("POST", path)
    assert again.status_code == 200, again.text
    assert again.json()["expired"] is False
    await expect_over(world, first)
    await world.join(await secret_sent_to(email, after=1), email)


async def test_every_link_that_opens_nothing_looks_alike(world: PeopleWorld) -> None:
    owner, email = await world.owner(), new_address()
    secret = await owner.invite(email)
    await world.join(secret, email)
    pages = set()
    for text in (secret, "A" * 43, "", "x", "é", "A" * 2000, "%00"):
        answer = await world.browser().get(f"/join?link={text}")
        assert answer.status_code == 410
        page = read_page(answer.text)
        pages.add((page.one("h1").text, page.one("main").text))
    assert len(pages) == 1


async def test_looking_at_a_link_changes_nothing(world: PeopleWorld) -> None:
    """Programs that scan mail open every link."""
    owner, email = await world.owner(), new_address()
    secret = await owner.invite(email)
    for _ in range(3):
        assert (await world.browser().get(f"/join?link={secret}")).status_code == 200
    await world.join(secret, email)


async def test_no_row_and_no_page_holds_the_secret(world: PeopleWorld) -> None:
    owner, email = await world.owner(), new_address()
    key = "once-" + email
    body = {"email": email, "role": "viewer"}
    made = await owner.api("POST", "/invitations", body, idempotency_key=key)
    secret = await secret_sent_to(email)
    again = await owner.api("POST", "/invitations", body, idempotency_key=key)
    assert again.status_code == 201
    assert again.json() == made.json(), "the same invitation, sent once"
    assert len(letters.letters_to(email)) == 1
    assert await world.sql("SELECT digest FROM invitation WHERE email = $1", email) == [
        (hashlib.sha256(secret.encode()).digest(),)
    ]
    for table in ("invitation", "idempotency_record", "outbox", "audit_entry"):
        assert not [row for row in await world.sql(f"SELECT t::text FROM {table} t") if secret in row[0]]
    for path in ("/members", "/members?new=1"):
        assert secret not in (await owner.visitor.get(path)).text


@pytest.mark.parametrize(
    ("email", "status", "code"),
    [
        ("nobody", 400, "invalid_email"),
        ("a b@example.eu", 400, "invalid_email"),
        ("x", 400, "invalid_request"),
        ("{own}", 409, "already_member"),
        ("{OWN}", 409, "already_member"),
        ("{invited}", 409, "already_invited"),
    ],
)
async def test_whom_nobody_can_invite(world: PeopleWorld, email: str, status: int, code: str) -> None:
    owner, invited = await world.owner(), new_address()
    await owner.invite(invited)
    address = email.format(own=owner.email, OWN=owner.email.upper(), invited=invited)
    answer = await owner.api("POST", "/invitations", {"email": address, "role": "viewer"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    on_page = await owner.visitor.post("/members/invite", email=address, role="viewer")
    assert on_page.status_code == 422
    page = read_page(on_page.text)
    assert page.has("email-error") and page.by_id("email").attributes["value"] == address


async def test_somebody_elses_account_is_not_told_from_nobodys(world: PeopleWorld) -> None:
    """Whom one invites has an account or not: the answers do not tell."""
    owner, stranger = await world.owner(), await world.owner()
    answers = []
    for email in (stranger.email, new_address()):
        answer = await owner.api("POST", "/invitations", {"email": email, "role": "viewer"})
        answers.append((answer.status_code, sorted(answer.json()), sorted(answer.headers)))
    assert answers[0] == answers[1]


async def test_another_organisations_invitation_is_not_found(world: PeopleWorld) -> None:
    owner, stranger = await world.owner(), await world.owner()
    await owner.invite(new_address())
    (listed,) = (await owner.api("GET", "/invitations")).json()["items"]
    assert (await stranger.api("GET", "/invitations")).json()["items"] == []
    assert (await stranger.api("POST", f"/invitations/{listed['id']}/send")).status_code == 404
    assert (await stranger.api("DELETE", f"/invitations/{listed['id']}")).status_code == 404
    assert (await stranger.visitor.post(f"/members/invitations/{listed['id']}/withdraw")).status_code == 404
    assert len((await owner.api("GET", "/invitations")).json()["items"]) == 1


async def test_fields_that_nobody_asked_for_have_no_effect(world: PeopleWorld) -> None:
    owner, other, email = await world.owner(), await world.owner(), new_address()
    body = {"email": email, "role": "viewer", "tenant_id": other.organisation}
    assert (await owner.api("POST", "/invitations", body)).status_code == 400
    secret = await owner.invite(email, Role.VIEWER)
    await world.browser().post(
        "/join", link=secret, password=PASSWORD, role="owner", email=other.email, tenant_id=other.organisation
    )
    query = "SELECT role, tenant_id FROM member WHERE email = $1"
    assert [tuple(map(str, row)) for row in await world.sql(query, email)] == [("viewer", str(owner.tenant_id))]


async def test_an_admin_neither_sends_nor_withdraws_an_owners_invitation(world: PeopleWorld) -> None:
    owner = await world.owner()
    admin = await world.colleague(owner, Role.ADMIN)
    await owner.invite(new_address(), Role.OWNER)
    (listed,) = (await admin.api("GET", "/invitations")).json()["items"]
    assert (await admin.api("POST", f"/invitations/{listed['id']}/send")).status_code == 403
    assert (await admin.api("DELETE", f"/invitations/{listed['id']}")).status_code == 403
    assert not (await admin.read("/members")).all("button", data_opens=f"withdraw-{listed['id']}")


@pytest.mark.parametrize("state", ["suspended", "closed"])
async def test_nobody_joins_an_organisation_that_is_not_active(world: PeopleWorld, state: str) -> None:
    owner, email = await world.owner(), new_address()
    secret = await owner.invite(email)
    await world.sql("UPDATE tenant SET state = $1 WHERE id = $2", state, owner.tenant_id)
    answer = await world.browser().post("/join", link=secret, password=PASSWORD)
    assert answer.status_code == 409
    assert "This organisation is not active." in answer.text
    assert await world.sql("SELECT count(*) FROM account WHERE email = $1", email) == [(0,)]
    if state != "closed":
        await world.sql("UPDATE tenant SET state = 'active' WHERE id = $1", owner.tenant_id)
        await world.join(secret, email)


async def test_who_is_a_member_by_then_is_told(world: PeopleWorld) -> None:
    owner, other = await world.owner(), await world.owner()
    secret = await owner.invite(other.email)
    await world.sql(
        "INSERT INTO member (tenant_id, id, account_id, email, role) "
        "SELECT $1, uuidv7(), account_id, email, 'viewer' FROM member WHERE id = $2",
        owner.tenant_id,
        other.member_id,
    )
    answer = await other.visitor.post("/join", link=secret)
    assert answer.status_code == 409
    assert "a member of this organisation already" in answer.text


async def test_the_pages_invite_send_and_withdraw(world: PeopleWorld) -> None:
    owner, email = await world.owner(), new_address()
    form = (await owner.read("/members?new=1")).by_id("invite-form")
    options = [option.attributes["value"] for option in form.one("select").all("option")]
    assert options == [role.value for role in Role]
    answer = await owner.visitor.post("/members/invite", email=email.upper(), role="developer")
    assert (answer.status_code, answer.headers["location"]) == (303, "/members")
    secret = await secret_sent_to(email)
    assert f"The invitation is on its way to {email}." in (await owner.visitor.get("/members")).text
    (row,) = (await owner.read("/members")).by_id("invitations-table").rows()
    assert row[:2] == [email, "Developer"]
    (listed,) = (await owner.api("GET", "/invitations")).json()["items"]
    soon = await owner.visitor.post(f"/members/invitations/{listed['id']}/send")
    assert (soon.status_code, soon.headers["location"]) == (303, "/members")
    assert "sent a moment ago" in (await owner.visitor.get("/members")).text
    await owner.visitor.post(f"/members/invitations/{listed['id']}/withdraw")
    page = await owner.read("/members")
    assert f"The invitation of {email} is withdrawn." in page.text and not page.has("invitations")
    await expect_over(world, secret)
    assert (await owner.visitor.post("/members/invite", email=email, role="root")).status_code == 422


async def test_where_no_mail_is_sent_whoever_invites_hands_the_link_over(world: PeopleWorld) -> None:
    owner, by_api, by_page = await world.owner(), new_address(), new_address()
    async with serve(replace(world.settings, smtp_url=""), HandClock()) as url, httpx.AsyncClient(base_url=url) as http:
        mute = replace(owner, visitor=Visitor(http, world.settings.portal_url))
        mute.visitor.cookies = dict(owner.visitor.cookies)
        made = await mute.api("POST", "/invitations", {"email": by_api, "role": "viewer"})
        answer = await mute.visitor.post("/members/invite", email=by_page, role="developer")
    assert answer.headers["cache-control"] == "no-store"
    await world.join(secret_in(made.json()["link"]), by_api)
    await world.join(secret_in(read_page(answer.text).by_id("invitation-link").exact_text), by_page)


async def test_the_letter_names_the_organisation_and_the_role(world: PeopleWorld) -> None:
    owner, email = await world.owner("Maison <Lumière>"), new_address()
    await owner.invite(email, Role.BILLING)
    (letter,) = letters.letters_to(email)
    assert letter["Subject"] == "You are invited to “Maison <Lumière>”"
    assert "as: Billing." in letters.text_of(letter)
    html = letter.get_body(("html",))
    assert html is not None and "Maison &lt;Lumière&gt;" in html.get_content()


async def expect_over(world: PeopleWorld, secret: str) -> None:
    visitor = world.browser()
    for answer in (
        await visitor.get(f"/join?link={secret}"),
        await visitor.post("/join", link=secret, password=PASSWORD),
    ):
        assert answer.status_code == 410
        assert OVER in answer.text


async def age(world: PeopleWorld, email: str, interval: str) -> None:
    """As if it had been sent that much earlier."""
    earlier = f"sent_at = sent_at - interval '{interval}', expires_at = expires_at - interval '{interval}'"
    await world.sql(f"UPDATE invitation SET {earlier} WHERE email = $1", email)
