"""What people do on the pages is in the audit log with who they are; that they come and go is not."""

import json
import re
from typing import Any

import httpx
import pytest
from litestar import Request
from litestar.testing import RequestFactory

from chappe_control.origins import origin_of
from chappe_kernel.ids import (
    MEMBER,
    REQUEST,
    AccountId,
    MemberId,
    OperatorUserId,
    TenantId,
    decode_id,
    encode_id,
    new_id,
)
from chappe_store.audit_log.origin import ActorKind
from chappe_store.session import TenantScope
from chappe_tenants.members.service import Role
from chappe_tenants.operators.service import OperatorRole
from chappe_tenants.organisations.lifecycle import TenantState
from chappe_tenants.sessions.service import MemberVisitor, OperatorVisitor
from tests import letters
from tests.pages.browser import PASSWORD, link_secret
from tests.sign_in.site import OPERATOR, Site


async def test_sign_up_is_told_as_the_doing_of_the_member_that_it_makes(site: Site) -> None:
    email = "told@example.eu"
    visitor = site.visitor()
    asked = await visitor.post("/sign-up", organisation="Told", email=email)
    assert "x-request-id" not in asked.headers, "it has changed nothing: nobody knows yet whose address it is"
    link = letters.link_in(await letters.letter_to(email))
    answer = await visitor.post("/sign-up/confirm", link=link_secret(link), password=PASSWORD)
    assert answer.status_code == 303
    ((member_id, tenant_id),) = await site.sql("SELECT id, tenant_id FROM member WHERE email = $1", email)
    entries = await told_of(site, answer)
    assert [entry["noun"] for entry in entries] == [
        *("tenant", "quota", "project", "budget", "ledger_transaction", "budget", "account", "member")
    ]
    for entry in entries:
        assert (entry["actor_kind"], entry["actor"]) == ("sign_up", str(member_id))
        # An account is no organisation's.
        told_to = None if entry["noun"] == "account" else str(tenant_id)
        assert (entry["address"], entry["tenant_id"]) == ("127.0.0.1", told_to)
    account, member = entries[-2:]
    assert account["after"] == {"email": email, "password_hash": "withheld"}
    assert member["after"] == {"account_id": account["subject"], "email": email, "role": "owner"}


async def test_a_sign_up_that_is_refused_is_not_told(site: Site) -> None:
    _, email = await site.member()
    known = await site.count("audit_entry")
    visitor = site.visitor()
    links = [await visitor.ask_for_link("/sign-up", "twice@example.eu", organisation="Once") for _ in range(2)]
    await site.sql("UPDATE mail_link SET email = $1 WHERE email = 'twice@example.eu'", email)
    answer = await visitor.post("/sign-up/confirm", link=link_secret(links[0]), password=PASSWORD)
    assert answer.status_code == 422, "the address got an account since"
    assert await site.count("audit_entry") == known


async def test_a_new_password_is_told_as_the_doing_of_who_reads_the_accounts_mail(site: Site) -> None:
    _, email = await site.member()
    visitor = site.visitor()
    link = await visitor.ask_for_link("/forgot-password", email)
    answer = await visitor.post("/reset-password", link=link_secret(link), password=PASSWORD + "!")
    (entry,) = await told_of(site, answer)
    assert (entry["action"], entry["noun"], entry["tenant_id"]) == ("changed", "account", None)
    assert (entry["actor_kind"], entry["actor"]) == ("mail_reader", entry["subject"])
    assert entry["after"] == {"password_hash": "withheld"}


async def test_signing_in_being_seen_and_signing_out_are_not_told(site: Site) -> None:
    visitor, email = await site.member()
    await visitor.post("/sign-out")
    known = await site.count("audit_entry")
    await visitor.sign_in(email)
    await visitor.console_sign_in(OPERATOR)
    for table in ("member_session", "operator_session"):
        await site.sql(f"UPDATE {table} SET seen_at = now() - interval '5 minutes'")
    for page in ("/keys", "/console/prices"):
        assert (await visitor.get(page)).status_code == 200
    for table in ("member_session", "operator_session"):
        assert await site.sql(f"SELECT 1 FROM {table} WHERE seen_at > now() - interval '1 minute'")
    await visitor.sign_in(email)
    await visitor.console_sign_in(OPERATOR)
    for path in ("/sign-out", "/console/sign-out"):
        assert (await visitor.post(path)).status_code == 303
    assert await site.count("audit_entry") == known


async def test_a_members_keys_are_told_with_the_member(site: Site) -> None:
    visitor, email = await site.member()
    ((member_id, tenant_id),) = await site.sql("SELECT id, tenant_id FROM member WHERE email = $1", email)
    made = await visitor.post("/keys", name="app", kind="inference")
    (entry,) = await told_of(site, made)
    assert (entry["action"], entry["noun"], entry["tenant_id"]) == ("created", "api_key", str(tenant_id))
    assert (entry["actor_kind"], entry["actor"], entry["address"]) == ("member", str(member_id), "127.0.0.1")
    assert (entry["after"]["name"], entry["after"]["digest"], entry["after"]["purpose"]) == ("app", "withheld", None)


async def test_the_playgrounds_key_is_told_once_and_its_tokens_never(site: Site) -> None:
    visitor, email = await site.member()
    ((member_id,),) = await site.sql("SELECT id FROM member WHERE email = $1", email)
    first, second = [await visitor.post_json("/playground/token") for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 201)
    (entry,) = await told_of(site, first)
    assert (entry["noun"], entry["actor"], entry["after"]["purpose"]) == ("api_key", str(member_id), "playground")
    assert await told_of(site, second) == []


async def test_an_organisation_reads_who_signed_it_up_and_who_made_its_keys(site: Site) -> None:
    visitor, email = await site.member()
    made = await visitor.post("/keys", name="programs", kind="management")
    secret = re.search(r"ck_m\w+", made.text)
    assert secret is not None
    answer = await site.http.get("/api/v1/audit", headers={"authorization": f"Bearer {secret.group()}"})
    ((member_id,),) = await site.sql("SELECT id FROM member WHERE email = $1", email)
    owner = {"id": encode_id(MEMBER, member_id), "address": "127.0.0.1"}
    newest, *first = answer.json()["items"]
    assert newest["actor"] == {"kind": "member", **owner}
    assert first and all(entry["actor"] == {"kind": "sign_up", **owner} for entry in first)


@pytest.mark.parametrize("kind", [ActorKind.MEMBER, ActorKind.OPERATOR_USER])
def test_who_is_signed_in_is_who_acts(kind: ActorKind) -> None:
    person = new_id()
    visitor = (
        MemberVisitor(
            scope=TenantScope(TenantId(new_id())),
            session_id=new_id(),
            member_id=MemberId(person),
            account_id=AccountId(new_id()),
            email="mia@example.eu",
            role=Role.OWNER,
            tenant_name="Mia",
            tenant_state=TenantState.ACTIVE,
            currency="EUR",
            organisations=(),
        )
        if kind == ActorKind.MEMBER
        else OperatorVisitor(new_id(), OperatorUserId(person), "ops@example.eu", OperatorRole.SUPPORT)
    )
    request: Request[Any, Any, Any] = RequestFactory().post("/", auth=visitor)
    origin = origin_of(request)
    assert (origin.kind, origin.actor) == (kind, str(person))
    assert origin_of(request).request_id == origin.request_id


async def told_of(site: Site, answer: httpx.Response) -> list[dict[str, Any]]:
    """The entries of one call, by the id in its answer."""
    rows = await site.sql(
        "SELECT row_to_json(e)::text FROM audit_entry e WHERE request_id = $1 ORDER BY sequence",
        decode_id(REQUEST, answer.headers["x-request-id"]),
    )
    return [json.loads(text) for (text,) in rows]
