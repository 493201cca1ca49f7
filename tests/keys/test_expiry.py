"""A key that has an end opens nothing from then on, and gateways know how long they may believe in it."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.keys.world import OLD, KeysWorld, Program


async def test_gateways_are_told_how_long_it_lives(keys: KeysWorld, alice: Program) -> None:
    key = await alice.key(expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    facts = await keys.paris.resolve(key["secret"])
    assert facts is not None and 3590 < (facts.valid_for_s or 0) <= 3600
    await alice.change(f"/keys/{key['id']}", expires_at=None)
    facts = await keys.paris.resolve(key["secret"])
    assert facts is not None and facts.valid_for_s is None


async def test_an_expired_key_opens_nothing_and_stays_as_it_was(keys: KeysWorld, alice: Program) -> None:
    key = await alice.key(kind="management")
    await keys.sql(f"UPDATE api_key SET expires_at = now() WHERE prefix = '{key['prefix']}' AND name = 'made'")
    assert not await keys.opens(key["secret"])
    answer = await alice.http.get("/api/v1/projects", headers={"authorization": f"Bearer {key['secret']}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")
    for method, path in (("PATCH", ""), ("POST", "/rotate")):
        answer = await alice.call(method, f"/keys/{key['id']}{path}", {}, if_match=OLD)
        assert (answer.status_code, answer.json()["code"]) == (409, "key_expired")


@pytest.mark.parametrize("days", [-1, 3661, 100_000])
async def test_an_end_is_in_the_future_and_not_out_of_sight(alice: Program, days: int) -> None:
    end = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    answer = await alice.call("POST", "/keys", {"name": "k", "expires_at": end})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_expiry")


async def test_expired_keys_do_not_count_against_the_most_there_may_be(
    keys: KeysWorld, alice: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chappe_tenants.api_keys.service.MAX_ACTIVE_KEYS", 2)
    key = await alice.key()
    assert (await alice.call("POST", "/keys", {"name": "k"})).json()["code"] == "too_many_keys"
    assert (await alice.call("POST", f"/keys/{key['id']}/rotate", {})).json()["code"] == "too_many_keys"
    await keys.sql(f"UPDATE api_key SET expires_at = now() WHERE tenant_id = '{alice.tenant_id}' AND name = 'made'")
    await alice.key()
