"""Who has the password gets a new session; who has not learns nothing, not even whether the address is known."""

import re
import time
import unicodedata
from collections.abc import Awaitable
from typing import Any

import httpx
import pytest

from tests.pages.browser import PASSWORD
from tests.sign_in.site import OPERATOR, Site, at_once, is_signed_in, try_sign_in

WRONG = "not the password 1"


async def test_each_sign_in_draws_a_new_secret_and_ends_the_one_before(site: Site) -> None:
    visitor, email = await site.member()
    before = site.visitor()
    before.cookies = dict(visitor.cookies)
    await visitor.sign_in(email)
    assert visitor.cookies["__Host-chappe"] != before.cookies["__Host-chappe"]
    assert await is_signed_in(visitor)
    assert not await is_signed_in(before)


async def test_a_secret_that_somebody_planted_is_not_taken_over(site: Site) -> None:
    _, email = await site.member()
    victim, planted = site.visitor(), "A" * 43
    victim.cookies["__Host-chappe"] = planted
    await victim.sign_in(email)
    assert victim.cookies["__Host-chappe"] != planted
    attacker = site.visitor()
    attacker.cookies["__Host-chappe"] = planted
    assert not await is_signed_in(attacker)


async def test_another_tenants_session_in_the_same_browser_ends_too(site: Site) -> None:
    first, _ = await site.member()
    _, other_email = await site.member()
    before = site.visitor()
    before.cookies = dict(first.cookies)
    await first.sign_in(other_email)
    assert not await is_signed_in(before)
    assert await is_signed_in(first)


async def test_other_browsers_stay_signed_in(site: Site) -> None:
    laptop, email = await site.member()
    phone = site.visitor()
    await phone.sign_in(email)
    assert await is_signed_in(laptop)
    assert await is_signed_in(phone)


@pytest.mark.parametrize(
    ("path", "name"), [("/sign-in", "__Host-chappe"), ("/console/sign-in", "__Host-chappe-console")]
)
async def test_the_cookie_has_exactly_these_attributes(site: Site, path: str, name: str) -> None:
    _, email = await site.member()
    visitor = site.visitor()
    answer = await visitor.post(path, email=OPERATOR if "console" in path else email, password=PASSWORD)
    (line,) = (line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{name}="))
    value, *attributes = line.removeprefix(f"{name}=").split("; ")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", value)
    assert sorted(attribute.lower() for attribute in attributes) == ["httponly", "path=/", "samesite=lax", "secure"]
    assert answer.headers["cache-control"] == "no-store"


async def test_the_address_is_read_as_people_type_it(site: Site) -> None:
    _, email = await site.member()
    assert await try_sign_in(site.visitor(), f"  {email.upper()} ") == 303


async def test_one_password_typed_on_two_keyboards_is_one(site: Site) -> None:
    composed = unicodedata.normalize("NFC", "crème brûlée façade")
    visitor = site.visitor()
    email = await visitor.sign_up(password=composed)
    assert await try_sign_in(site.visitor(), email, unicodedata.normalize("NFD", composed)) == 303
    assert await try_sign_in(site.visitor(), email, "creme brulee facade") == 403


@pytest.mark.parametrize("path", ["/sign-in", "/console/sign-in"])
async def test_unknown_address_and_wrong_password_get_the_same_answer(site: Site, path: str) -> None:
    _, known = await site.member()
    visitor = site.visitor()
    await visitor.csrf_token()
    answers = []
    for email in (OPERATOR if "console" in path else known, "nobody@example.eu", "no address", ""):
        answer = await visitor.post(path, email=email, password=WRONG)
        shown = answer.text.replace(f'value="{email}"', 'value=""')
        answers.append((answer.status_code, shown, sorted(set(answer.headers) - {"content-length", "date"})))
    assert answers[0][0] == 403
    assert "The e-mail address or the password is wrong." in answers[0][1]
    assert all(answer == answers[0] for answer in answers)


async def test_unknown_address_takes_as_long_as_a_wrong_password(site: Site, real_hashes: None) -> None:
    """Turns taken by both, the quickest of each: without a hash an unknown address is ten times as fast."""
    async with site.strict() as fresh:  # Its dummy hash is made under the real parameters.
        _, known = await fresh.member()
        visitor = fresh.visitor()
        await visitor.csrf_token()
        taken: dict[str, list[float]] = {known: [], "nobody@example.eu": []}
        for _ in range(7):
            for email, seconds in taken.items():
                started = time.perf_counter()
                await visitor.post("/sign-in", email=email, password=WRONG)
                seconds.append(time.perf_counter() - started)
    wrong, unknown = (min(seconds) for seconds in taken.values())
    assert 0.67 < wrong / unknown < 1.5, (wrong, unknown)


async def test_an_organisation_that_is_closed_lets_nobody_in(site: Site) -> None:
    visitor, email = await site.member()
    await site.sql(
        "UPDATE tenant SET state = 'closed' WHERE id = (SELECT tenant_id FROM member WHERE email = $1)", email
    )
    assert not await is_signed_in(visitor), "its sessions show nothing from now on"
    answer = await site.visitor().post("/sign-in", email=email, password=PASSWORD)
    assert answer.status_code == 403
    assert "not active" in answer.text
    answer = await site.visitor().post("/sign-in", email=email, password=WRONG)
    assert "not active" not in answer.text, "only who has the password learns of it"
    await visitor.post("/sign-out")
    sessions = "SELECT count(*) FROM member_session s JOIN member m ON m.id = s.member_id WHERE m.email = $1"
    assert await site.sql(sessions, email) == [(0,)]


async def test_a_members_password_opens_no_console_and_the_other_way_round(site: Site) -> None:
    member, email = await site.member()
    assert (await site.visitor().post("/console/sign-in", email=email, password=PASSWORD)).status_code == 403
    assert await try_sign_in(site.visitor(), OPERATOR) == 403
    operator = site.visitor()
    await operator.console_sign_in(OPERATOR)
    swapped = site.visitor()
    swapped.cookies = {
        "__Host-chappe": operator.cookies["__Host-chappe-console"],
        "__Host-chappe-console": member.cookies["__Host-chappe"],
    }
    assert not await is_signed_in(swapped)
    assert (await swapped.get("/console/sign-in")).status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "javascript:alert(1)",
        "evil.example",
        "http:evil.example",
        "/é",
        "/" + "a" * 600,
        "",
        "/console",
        "/console/tenants",
    ],
)
async def test_after_signing_in_nobody_ends_up_elsewhere(site: Site, target: str) -> None:
    visitor, email = await site.member()
    answer = await visitor.post("/sign-in", email=email, password=PASSWORD, next=target)
    assert (answer.status_code, answer.headers["location"]) == (303, "/overview")
    answer = await visitor.get(str(httpx.URL("/sign-in", params={"next": target})))
    assert (answer.status_code, answer.headers["location"]) == (303, "/overview")


@pytest.mark.parametrize("target", ["/keys", "/requests?sort=amount&order=desc", "/requests/req_1#line"])
async def test_after_signing_in_the_visitor_is_where_they_wanted(site: Site, target: str) -> None:
    visitor, email = await site.member()
    answer = await visitor.post("/sign-in", email=email, password=PASSWORD, next=target)
    assert answer.headers["location"] == target


async def test_console_sign_in_goes_to_the_console_only(site: Site) -> None:
    for target, expected in {
        "/console/tenants?q=a": "/console/tenants?q=a",
        "/keys": "/console",
        "//evil.example": "/console",
        "/consoles": "/console",
    }.items():
        answer = await site.visitor().post("/console/sign-in", email=OPERATOR, password=PASSWORD, next=target)
        assert answer.headers["location"] == expected


async def test_signing_out_ends_the_session_for_whoever_has_its_secret(site: Site) -> None:
    visitor, email = await site.member()
    copy = site.visitor()
    copy.cookies = dict(visitor.cookies)
    answer = await visitor.post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "__Host-chappe" not in visitor.cookies
    assert not await is_signed_in(copy)
    sessions = "SELECT count(*) FROM member_session s JOIN member m ON m.id = s.member_id WHERE m.email = $1"
    assert await site.sql(sessions, email) == [(0,)]
    assert (await visitor.post("/sign-out")).status_code == 303, "once more does no harm"


async def test_signing_out_of_the_console_ends_its_session(site: Site) -> None:
    visitor = site.visitor()
    await visitor.console_sign_in(OPERATOR)
    copy = site.visitor()
    copy.cookies = dict(visitor.cookies)
    assert (await copy.get("/console/sign-in")).status_code == 303
    answer = await visitor.post("/console/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")
    assert (await copy.get("/console/sign-in")).status_code == 200


async def test_signing_out_needs_a_post(site: Site) -> None:
    visitor, _ = await site.member()
    assert (await visitor.get("/sign-out")).status_code == 405
    assert await is_signed_in(visitor)


async def test_many_at_once_all_get_in(site: Site, real_hashes: None) -> None:
    """More than the threads that hash: they wait for each other, and no other page waits for them."""
    _, email = await site.member()
    visitors = [site.visitor() for _ in range(12)]
    for visitor in visitors:
        await visitor.csrf_token()
    ended: list[str] = []

    async def note(what: str, work: Awaitable[Any]) -> Any:
        result = await work
        ended.append(what)
        return result

    async def look() -> None:
        for _ in range(3):
            assert (await site.visitor().get("/sign-in")).status_code == 200

    signing_in = [note("sign-in", try_sign_in(visitor, email)) for visitor in visitors]
    _, *statuses = await at_once(note("page", look()), *signing_in)
    assert statuses == [303] * 12
    assert ended.index("page") < 6
