"""An organisation that somebody else began gets its first owner by a link; a reseller brings in nobody after that."""

import secrets

from tests import letters
from tests.organisations.test_customers import customer_of
from tests.organisations.world import Api, Organisations
from tests.pages.browser import PASSWORD, Visitor
from tests.people.world import new_address, secret_in, secret_sent_to
from tests.portal.reading import read_page


async def joined(world: Organisations, email: str, *, after: int = 0) -> Visitor:
    visitor = world.visitor()
    answer = await visitor.post("/join", link=await secret_sent_to(email, after=after), password=PASSWORD)
    assert (answer.status_code, answer.headers.get("location")) == (303, "/overview"), answer.text
    return visitor


async def test_the_operators_tenant_gets_its_owner(world: Organisations) -> None:
    made, email = await world.create(state="active"), new_address()
    sent = await (await world.operator()).post(
        f"/operator/tenants/{made['id']}/owner-invitations", {"email": email.upper()}, 201
    )
    assert (sent["email"], sent["role"], sent["link"]) == (email, "owner", None)
    owner = Api(await joined(world, email))
    assert (await owner.get("/organisation"))["id"] == made["id"]
    (member,) = (await owner.get("/members"))["items"]
    assert (member["email"], member["role"]) == (email, "owner")
    (invited, *_) = [entry for entry in (await owner.get("/audit"))["items"] if entry["noun"] == "invitation"][::-1]
    assert invited["actor"] == {"kind": "operator", "id": None, "address": None}


async def test_the_operator_brings_an_owner_back(world: Organisations) -> None:
    tenant, email = await world.organisation(), new_address()
    operator = await world.operator()
    path = f"/operator/tenants/{tenant.public_id}/owner-invitations"
    assert (await operator.post(path, {"email": tenant.email}, 409))["code"] == "already_member"
    await operator.post(path, {"email": email}, 201)
    assert (await operator.post(path, {"email": email}, 429))["code"] == "sent_lately"
    await world.sql("UPDATE invitation SET sent_at = now() - interval '2 minutes' WHERE email = $1", email)
    first = await secret_sent_to(email)
    await operator.post(path, {"email": email}, 201)
    assert "This invitation is over" in (await world.visitor().get(f"/join?link={first}")).text
    await joined(world, email, after=1)


async def test_a_resellers_customer_gets_its_first_owner_and_no_other(world: Organisations) -> None:
    reseller, email = await world.reseller(), new_address()
    customer = await customer_of(reseller)
    path = f"/customers/{customer['id']}/owner-invitations"
    key = secrets.token_hex(8)
    sent = await reseller.api.post(path, {"email": email}, 201, idempotency_key=key)
    assert await reseller.api.post(path, {"email": email}, 201, idempotency_key=key) == sent
    owner = Api(await joined(world, email))
    assert len(letters.letters_to(email)) == 1
    entries = (await owner.get("/audit"))["items"]
    assert {entry["actor"]["kind"] for entry in entries if entry["noun"] == "invitation"} >= {"reseller"}
    assert reseller.email not in str(entries)
    refused = await reseller.api.post(path, {"email": new_address()}, 409)
    assert refused["code"] == "has_owner"
    other = await world.reseller()
    assert (await other.api.post(path, {"email": new_address()}, 404))["code"] == "not_found"


async def test_nobody_joins_what_is_closed(world: Organisations) -> None:
    made = await world.create()
    await world.step(made["id"], "closed", "rejected")
    refused = await (await world.operator()).post(
        f"/operator/tenants/{made['id']}/owner-invitations", {"email": new_address()}, 409
    )
    assert refused["code"] == "organisation_closed"


async def test_the_console_invites_and_says_what_is_wrong(world: Organisations) -> None:
    made, email = await world.create(), new_address()
    visitor = await world.operator_visitor()
    shown = read_page((await visitor.get(f"/console/tenants/{made['id']}")).text)
    path = f"/console/tenants/{made['id']}/owners"
    assert path in [link.attributes.get("href") for link in shown.all("a")]
    wrong = await visitor.post(path, email="nobody")
    assert wrong.status_code == 422 and "name@company.example" in wrong.text
    done = await visitor.post(path, email=email)
    assert (done.status_code, done.headers["location"]) == (303, f"/console/tenants/{made['id']}")
    assert secret_in(letters.link_in(await letters.letter_to(email)))
    again = await visitor.post(path, email=email)
    assert again.status_code == 422 and "a moment ago" in again.text


async def test_a_resellers_page_invites_until_there_is_an_owner(world: Organisations) -> None:
    reseller, email = await world.reseller(), new_address()
    customer = await customer_of(reseller)
    path = f"/customers/{customer['id']}/owners"
    page = await reseller.read(f"/customers/{customer['id']}")
    assert path in [link.attributes.get("href") for link in page.all("a")]
    await reseller.read(path)
    assert (await reseller.visitor.post(path, email=email)).status_code == 303
    await joined(world, email)
    page = await reseller.read(f"/customers/{customer['id']}")
    assert path not in [link.attributes.get("href") for link in page.all("a")]
    late = await reseller.visitor.post(path, email=new_address())
    assert late.status_code == 422 and "It has an owner by now" in late.text
