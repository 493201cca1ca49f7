"""Rotation: for the chosen overlap both keys open the same, then the old one ends by itself."""

import asyncio
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from chappe_tenants.api_keys.expiry import successors_expiry
from tests.control.world import CHAT
from tests.keys.world import KeysWorld, Program


async def test_both_open_the_same_until_the_old_one_ends(keys: KeysWorld, alice: Program) -> None:
    old = await alice.key(name="job", regions=["DE"], models=[CHAT], networks=["192.0.2.0/24"], requests_per_minute=7)
    new = await alice.make(f"/keys/{old['id']}/rotate", overlap_s=3600)
    assert new["predecessor_id"] == old["id"]
    kept = ("name", "kind", "project_id", "regions", "models", "networks", "requests_per_minute", "owner", "expires_at")
    assert {name: new[name] for name in kept} == {name: old[name] for name in kept}
    before, after = await keys.paris.resolve(old["secret"]), await keys.paris.resolve(new["secret"])
    assert before is not None and after is not None
    assert 3590 < (before.valid_for_s or 0) <= 3600
    assert after.valid_for_s is None
    await keys.sql(f"UPDATE api_key SET expires_at = now() WHERE name = 'job' AND prefix = '{old['prefix']}'")
    assert not await keys.opens(old["secret"])
    assert await keys.opens(new["secret"])


async def test_without_an_overlap_the_old_key_ends_at_once(keys: KeysWorld, alice: Program) -> None:
    old = await alice.key()
    new = await alice.make(f"/keys/{old['id']}/rotate", overlap_s=0)
    assert not await keys.opens(old["secret"])
    assert await keys.opens(new["secret"])


async def test_an_overlap_lengthens_no_life(alice: Program) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    old = await alice.key(expires_at=end.isoformat())
    new = await alice.make(f"/keys/{old['id']}/rotate", overlap_s=7200)
    assert (await alice.get(f"/keys/{old['id']}"))["expires_at"] == old["expires_at"]
    lives = datetime.fromisoformat(new["expires_at"]) - datetime.fromisoformat(new["created_at"])
    meant = datetime.fromisoformat(old["expires_at"]) - datetime.fromisoformat(old["created_at"])
    assert lives == meant


async def test_of_many_who_rotate_at_once_one_gets_the_successor(alice: Program) -> None:
    old = await alice.key()
    answers = await asyncio.gather(*(alice.call("POST", f"/keys/{old['id']}/rotate", {}) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"key_rotated"}
    listed = (await alice.get("/keys"))["items"]
    assert len([key for key in listed if key["predecessor_id"] == old["id"]]) == 1


async def test_the_successor_is_rotated_next(keys: KeysWorld, alice: Program) -> None:
    first = await alice.key()
    second = await alice.make(f"/keys/{first['id']}/rotate")
    third = await alice.make(f"/keys/{second['id']}/rotate")
    assert all([await keys.opens(key["secret"]) for key in (first, second, third)])


async def test_a_management_key_can_rotate_itself(alice: Program) -> None:
    (own,) = [key for key in (await alice.get("/keys"))["items"] if key["name"] == "management"]
    new = await alice.make(f"/keys/{own['id']}/rotate", overlap_s=0)
    assert (await alice.call("GET", "/projects")).status_code == 401
    answer = await alice.http.get("/api/v1/projects", headers={"authorization": f"Bearer {new['secret']}"})
    assert answer.status_code == 200


async def test_overlap_is_bounded(alice: Program) -> None:
    key = await alice.key()
    for overlap in (-1, 31 * 24 * 3600, "1", None):
        answer = await alice.call("POST", f"/keys/{key['id']}/rotate", {"overlap_s": overlap})
        assert (answer.status_code, answer.json()["param"]) == (400, "overlap_s")


_TIMES = st.integers(1_577_836_800, 4_102_444_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(_TIMES, st.timedeltas(timedelta(seconds=1), timedelta(days=3660)), st.timedeltas(timedelta(0), timedelta(9999)))
def test_a_successor_lives_as_long_as_was_meant(created: datetime, lives: timedelta, later: timedelta) -> None:
    now = created + later
    assert successors_expiry(created, created + lives, now) == now + lives
    assert successors_expiry(created, None, now) is None
