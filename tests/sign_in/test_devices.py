"""A browser in which somebody signed in before is let through while others are slowed, and opens nothing by itself."""

import re

import pytest

from chappe_control.sign_in.attempts import Realm
from chappe_control.sign_in.devices import LIFETIME, Devices
from chappe_kernel.api_keys import Pepper
from tests.control.world import HandClock
from tests.pages.browser import PASSWORD
from tests.sign_in.site import OPERATOR, Site, is_signed_in, try_sign_in

WRONG = "not the password 1"
COOKIE = "__Host-chappe-device"
MIA = "mia@example.eu"
OLD, NEW = Pepper(1, b"a" * 32), Pepper(2, b"b" * 32)


def devices(*peppers: Pepper, realm: Realm = Realm.PORTAL, clock: HandClock | None = None) -> Devices:
    return Devices(peppers or (OLD,), realm, clock or HandClock())


def value_of(signer: Devices, email: str = MIA) -> str:
    value = signer.sign(email).value
    assert value is not None
    return value


async def test_behind_an_address_that_others_abuse_the_known_browser_gets_in(site: Site) -> None:
    """One office, one address: an attacker there has used up everybody's tries."""
    known, email = await site.member()
    await known.post("/sign-out")
    async with site.strict(sign_in_failures_per_minute=3, account_failures_per_minute=3) as strict:
        attacker, laptop, new = strict.visitor(), strict.visitor(), strict.visitor()
        laptop.cookies = dict(known.cookies)
        assert [await try_sign_in(attacker, email, WRONG) for _ in range(5)] == [403] * 3 + [429] * 2
        assert await try_sign_in(new, email) == 429, "a browser that nobody knows has to wait"
        assert await try_sign_in(laptop, email) == 303
        assert await is_signed_in(laptop)


async def test_a_known_browser_may_guess_no_more_than_an_address(site: Site) -> None:
    known, email = await site.member()
    async with site.strict(sign_in_failures_per_minute=3) as strict:
        thief = strict.visitor()
        thief.cookies[COOKIE] = known.cookies[COOKIE]
        statuses = [await try_sign_in(thief, email, WRONG) for _ in range(9)]
        assert statuses == [403] * 6 + [429] * 3, "its own three, and then the address's three"
        assert await try_sign_in(thief, "other@example.eu", WRONG) == 429, "for others it is no device at all"


async def test_the_cookie_opens_nothing_by_itself(site: Site) -> None:
    known, email = await site.member()
    thief = site.visitor()
    thief.cookies[COOKIE] = known.cookies[COOKIE]
    assert not await is_signed_in(thief)
    assert await try_sign_in(thief, email, WRONG) == 403


@pytest.mark.parametrize(("path", "name"), [("/sign-in", COOKIE), ("/console/sign-in", "__Host-chappe-console-device")])
async def test_it_is_given_to_who_signed_in_and_to_nobody_else(site: Site, path: str, name: str) -> None:
    _, email = await site.member()
    address = OPERATOR if "console" in path else email
    visitor = site.visitor()
    assert not _cookies(await visitor.post(path, email=address, password=WRONG), name)
    (line,) = _cookies(await visitor.post(path, email=f" {address.upper()}", password=PASSWORD), name)
    value, *attributes = line.removeprefix(f"{name}=").split("; ")
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}\.\d+\.[0-9a-f]{64}", value)
    assert sorted(attribute.lower() for attribute in attributes) == [
        *("httponly", "max-age=15552000", "path=/", "samesite=lax", "secure")
    ]


async def test_it_survives_signing_out(site: Site) -> None:
    visitor, _ = await site.member()
    await visitor.post("/sign-out")
    assert COOKIE in visitor.cookies


def test_it_is_bound_to_its_account_and_realm() -> None:
    value = value_of(devices())
    assert devices().recognise(value, MIA) == value.partition(".")[0]
    assert devices().recognise(value, "bob@example.eu") is None
    assert devices(realm=Realm.CONSOLE).recognise(value, MIA) is None


def test_it_ends_after_half_a_year() -> None:
    clock = HandClock()
    signer = devices(clock=clock)
    value = value_of(signer)
    clock.advance(LIFETIME.total_seconds() - 60)
    assert signer.recognise(value, MIA)
    clock.advance(120)
    assert signer.recognise(value, MIA) is None


def test_rotating_the_pepper_forgets_no_browser() -> None:
    value = value_of(devices(OLD))
    assert devices(OLD, NEW).recognise(value, MIA)
    assert devices(NEW).recognise(value, MIA) is None
    assert devices(NEW).recognise(value_of(devices(OLD, NEW)), MIA)


@pytest.mark.parametrize("place", ["name", "since", "mac"])
def test_nothing_in_it_can_be_changed(place: str) -> None:
    name, since, mac = value_of(devices()).split(".")
    changed = {
        "name": ("A" * 22, since, mac),
        "since": (name, str(int(since) + 1), mac),
        "mac": (name, since, "0" * 64),
    }
    assert devices().recognise(".".join(changed[place]), MIA) is None


@pytest.mark.parametrize(
    "value", [None, "", ".", "..", "x" * 5000, "é.1.a", "A" * 22 + ".99999999999999999." + "0" * 64]
)
def test_what_is_none_of_ours_is_nothing(value: str | None) -> None:
    assert devices().recognise(value, MIA) is None


def _cookies(answer: object, name: str) -> list[str]:
    lines: list[str] = answer.headers.get_list("set-cookie")  # type: ignore[attr-defined]  # an httpx.Response
    return [line for line in lines if line.startswith(f"{name}=")]
