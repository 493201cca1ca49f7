"""A token does what its role may, for as long as its user may it, and never more than that."""

from typing import Any

import httpx
import pytest

from chappe_kernel.api_keys import digest_key, is_operator_token, is_well_formed
from chappe_kernel.ids import OPERATOR_TOKEN, decode_id
from chappe_tenants.operators.service import OperatorRole
from tests.access.world import AccessWorld, Caller, make_token, sign_in_operator, unlike
from tests.control.world import PEPPERS
from tests.pages.browser import Visitor

TOKENS = "/api/v1/operator/tokens"


async def as_program(access: AccessWorld, secret: str, method: str = "GET", path: str = TOKENS) -> httpx.Response:
    return await access.http.request(method, path, headers={"authorization": f"Bearer {secret}"})


async def sql(access: AccessWorld, statement: str, *values: Any) -> list[Any]:
    async with access.control.engine.connect() as connection:
        result = await connection.exec_driver_sql(statement, values or None)
        return [tuple(row) for row in result.all()] if result.returns_rows else []


@pytest.fixture
async def support(access: AccessWorld) -> Visitor:
    """Somebody of the operator's support, signed in to the console."""
    return await sign_in_operator(access.control, OperatorRole.SUPPORT)


async def test_its_secret_is_shown_once_and_stored_nowhere(access: AccessWorld, support: Visitor) -> None:
    made = await make_token(support)
    secret = made.pop("secret")
    assert is_operator_token(secret) and not is_well_formed(secret) and secret.startswith(made["prefix"])
    (shown,) = (await as_program(access, secret)).json()["items"]
    assert shown | {"last_used_at": None} == made
    for table in ("operator_token", "operator_idempotency_record", "audit_entry", "outbox"):
        rows = await sql(access, f"SELECT t::text FROM {table} t")
        assert not [row for row in rows if secret in row[0]], table


async def test_a_repeat_makes_no_second_one(access: AccessWorld, support: Visitor) -> None:
    body = {"name": unlike("token")}
    headers = {"origin": support.portal_url, "idempotency-key": unlike("once")}
    first = await support.request("POST", TOKENS, headers=headers, json=body)
    repeat = await support.request("POST", TOKENS, headers=headers, json=body)
    assert (first.status_code, repeat.status_code, repeat.json()["code"]) == (201, 409, "already_completed")
    (token,) = (await as_program(access, first.json()["secret"])).json()["items"]
    assert token["name"] == body["name"]


@pytest.mark.parametrize("role", [OperatorRole.ADMINISTRATOR, OperatorRole.FINANCE, OperatorRole.AUDITOR])
async def test_nobody_gives_a_token_more_than_they_have(support: Visitor, role: OperatorRole) -> None:
    answer = await support.request(
        "POST", TOKENS, headers={"origin": support.portal_url}, json={"name": "wide", "role": role}
    )
    assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (400, "role_too_wide", "role")


async def test_an_administrator_makes_tokens_of_every_role(access: AccessWorld) -> None:
    for role in OperatorRole:
        made = await make_token(access.doors[Caller.ADMINISTRATOR].visitor, role=role)
        assert made["role"] == role


async def test_a_user_who_may_less_takes_it_from_their_tokens_at_once(access: AccessWorld) -> None:
    boss = await sign_in_operator(access.control, OperatorRole.ADMINISTRATOR)
    wide, narrow = await make_token(boss), await make_token(boss, role=OperatorRole.SUPPORT)
    await sql(access, "UPDATE operator_user SET role = 'support' WHERE email = $1", wide["user"])
    refused = await as_program(access, wide["secret"])
    assert (refused.status_code, refused.json()["code"]) == (403, "role_denied")
    assert (await as_program(access, narrow["secret"])).status_code == 200
    await sql(access, "UPDATE operator_user SET role = 'administrator' WHERE email = $1", wide["user"])
    assert (await as_program(access, wide["secret"])).status_code == 200


async def test_a_removed_user_takes_their_tokens_along(access: AccessWorld, support: Visitor) -> None:
    made = await make_token(support)
    await sql(access, "DELETE FROM operator_user WHERE email = $1", made["user"])
    assert (await as_program(access, made["secret"])).status_code == 401


async def test_it_ends_when_it_is_over_or_revoked(access: AccessWorld, support: Visitor) -> None:
    ended, revoked = await make_token(support, lifetime_days=1), await make_token(support)
    token_id = decode_id(OPERATOR_TOKEN, ended["id"])
    await sql(access, "UPDATE operator_token SET created_at = created_at - interval '2 days' WHERE id = $1", token_id)
    await sql(access, "UPDATE operator_token SET expires_at = now() WHERE id = $1", token_id)
    for _ in range(2):
        gone = await as_program(access, revoked["secret"], "DELETE", f"{TOKENS}/{revoked['id']}")
        assert gone.status_code in {204, 401}, "it may revoke itself"
    for token in (ended, revoked):
        answer = await as_program(access, token["secret"])
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_operator_token")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_users_see_their_own_and_administrators_everybodys(access: AccessWorld, support: Visitor) -> None:
    mine, other = await make_token(support), await make_token(access.doors[Caller.FINANCE].visitor)
    shown = {token["id"] for token in (await as_program(access, mine["secret"])).json()["items"]}
    assert mine["id"] in shown and other["id"] not in shown
    everybodys = await access.call(Caller.ADMINISTRATOR, "GET", f"{TOKENS}?limit=500")
    assert {mine["id"], other["id"]} <= {token["id"] for token in everybodys.json()["items"]}


async def test_rotating_the_pepper_breaks_no_token(access: AccessWorld, support: Visitor) -> None:
    """A token made under the older of two peppers, as every token is after a rotation."""
    made = await make_token(support)
    older, newer = PEPPERS
    rows = await sql(
        access, "SELECT pepper_version FROM operator_token WHERE id = $1", decode_id(OPERATOR_TOKEN, made["id"])
    )
    assert rows == [(newer.version,)]
    await sql(
        access,
        "UPDATE operator_token SET pepper_version = $1, digest = $2 WHERE id = $3",
        older.version,
        digest_key(made["secret"], older),
        decode_id(OPERATOR_TOKEN, made["id"]),
    )
    assert (await as_program(access, made["secret"])).status_code == 200


async def test_what_it_does_is_told_as_its_own_doing(access: AccessWorld, support: Visitor) -> None:
    worker, other = await make_token(support), await make_token(support)
    assert (await as_program(access, worker["secret"], "DELETE", f"{TOKENS}/{other['id']}")).status_code == 204
    rows = await sql(
        access,
        "SELECT actor_kind, actor, noun, action FROM audit_entry WHERE subject = $1 ORDER BY sequence DESC LIMIT 1",
        str(decode_id(OPERATOR_TOKEN, other["id"])),
    )
    assert rows == [("operator_token", str(decode_id(OPERATOR_TOKEN, worker["id"])), "operator_token", "changed")]


async def test_a_bad_token_is_refused_whatever_cookie_comes_with_it(access: AccessWorld, support: Visitor) -> None:
    answer = await support.request("GET", TOKENS, headers={"authorization": "Bearer co_nothing"})
    assert answer.status_code == 401
    assert (await support.request("GET", TOKENS, headers={})).status_code == 200


async def test_another_sites_page_makes_no_token_with_an_operators_cookie(support: Visitor) -> None:
    for origin in ({}, {"origin": "https://evil.example"}, {"origin": "null"}):
        answer = await support.request("POST", TOKENS, headers=origin, json={"name": "stolen"})
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")


async def test_last_use_is_shown_to_the_minute(access: AccessWorld, support: Visitor) -> None:
    made = await make_token(support)
    assert made["last_used_at"] is None
    first, again = [(await as_program(access, made["secret"])).json()["items"][0]["last_used_at"] for _ in range(2)]
    assert first == again is not None
