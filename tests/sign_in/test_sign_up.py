"""Signing up makes one organisation with all that it needs, or nothing at all."""

import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from chappe_control.mail_links.service import Purpose, make_link
from chappe_tenants.passwords import verify_password
from tests import letters
from tests.pages.browser import PASSWORD, link_secret
from tests.sign_in.site import Site, at_once, is_signed_in, try_sign_in

TABLES = ("tenant", "project", "budget", "account", "member", "ledger_transaction")
GOOD = {"organisation": "Société Exemple", "email": "first@example.eu"}
TABLES = ("tenant", "project", "budget", "account", "member", "ledger_transaction")


async def test_the_link_in_the_letter_makes_an_organisation_with_its_owner_signed_in(site: Site) -> None:
    visitor = site.visitor()
    before = [await site.count(table) for table in TABLES]
    path = await visitor.ask_for_link("/sign-up", GOOD["email"], organisation=GOOD["organisation"])
    assert [await site.count(table) for table in TABLES] == before, "nothing is made before the link is opened"
    page = await visitor.get(path)
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert GOOD["organisation"] in page.text and GOOD["email"] in page.text
    assert [await site.count(table) for table in TABLES] == before, "mail scanners open links too"
    answer = await visitor.post("/sign-up/confirm", link=link_secret(path), password=PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/keys?welcome=1")
    assert await is_signed_in(visitor)
    ((tenant, state, currency, regions, limit),) = await site.sql(
        "SELECT t.id, t.state, t.currency, t.allowed_regions, t.requests_per_minute FROM tenant t WHERE name = $1",
        GOOD["organisation"],
    )
    assert (state, currency, sorted(regions), limit) == ("active", "EUR", ["de-fra", "fr-par"], 600)
    assert await site.sql("SELECT name FROM project WHERE tenant_id = $1", tenant) == [("default",)]
    assert await site.sql("SELECT funds_nano FROM budget WHERE tenant_id = $1", tenant) == [(10 * 10**9,)]
    ((email, role, password_hash),) = await site.sql(
        "SELECT a.email, m.role, a.password_hash FROM member m JOIN account a ON a.id = m.account_id "
        "WHERE m.tenant_id = $1",
        tenant,
    )
    assert (email, role, verify_password(password_hash, PASSWORD)) == (GOOD["email"], "owner", True)
    assert len(await site.sql("SELECT id FROM member_session WHERE tenant_id = $1", tenant)) == 1


async def test_whoever_types_a_strangers_address_does_not_choose_the_password(site: Site) -> None:
    """Or else the stranger would confirm an account whose password somebody else knows."""
    attacker, email = site.visitor(), "prey@example.eu"
    await attacker.post("/sign-up", organisation="Trap", email=email, password="the attackers own 7")
    link = letters.link_in(await letters.letter_to(email))
    reader = site.visitor()
    await reader.post("/sign-up/confirm", link=link_secret(link), password=PASSWORD)
    assert await try_sign_in(site.visitor(), email, "the attackers own 7") == 403
    assert await try_sign_in(site.visitor(), email) == 303


async def test_the_letter_repeats_nothing_that_somebody_typed(site: Site) -> None:
    """So nobody sends a stranger a text of theirs in our name."""
    email = "spam-victim@example.eu"
    await site.visitor().post("/sign-up", organisation="Win at evil.example", email=email)
    letter = await letters.letter_to(email)
    assert "evil" not in letter.as_string()


async def test_a_link_works_once_and_for_its_purpose_alone(site: Site) -> None:
    visitor, email = site.visitor(), "once@example.eu"
    first = await visitor.ask_for_link("/sign-up", email, organisation="Once")
    second = await visitor.ask_for_link("/sign-up", email, organisation="Once")
    assert link_secret(first) != link_secret(second)
    reset = await visitor.get(f"/reset-password?link={link_secret(first)}")
    assert reset.status_code == 410
    answer = await visitor.post("/sign-up/confirm", link=link_secret(second), password=PASSWORD)
    assert answer.status_code == 303
    for path in (first, second):
        assert (await site.visitor().get(path)).status_code == 410
        again = await site.visitor().post("/sign-up/confirm", link=link_secret(path), password=PASSWORD)
        assert again.status_code == 410
    assert await site.sql("SELECT count(*) FROM mail_link WHERE email = $1", email) == [(0,)]


@pytest.mark.parametrize("secret", ["", "x", "A" * 43, "a" * 5000, "é" * 43, "A" * 42 + "\0"])
async def test_no_other_secret_opens_anything(site: Site, secret: str) -> None:
    visitor = site.visitor()
    for page in ("/sign-up/confirm", "/reset-password"):
        assert (await visitor.get(str(httpx.URL(page, params={"link": secret})))).status_code == 410
        assert (await visitor.post(page, link=secret, password=PASSWORD)).status_code == 410


async def test_a_link_is_over_after_a_day(site: Site) -> None:
    visitor, email = site.visitor(), "late@example.eu"
    path = await visitor.ask_for_link("/sign-up", email, organisation="Late")
    ((hours,),) = await site.sql("SELECT expires_at - created_at FROM mail_link WHERE email = $1", email)
    assert hours == timedelta(hours=24)
    await site.sql(
        "UPDATE mail_link SET created_at = now() - interval '2 days', expires_at = now() WHERE email = $1", email
    )
    assert (await visitor.get(path)).status_code == 410
    assert (await visitor.post("/sign-up/confirm", link=link_secret(path), password=PASSWORD)).status_code == 410
    await visitor.ask_for_link("/sign-up", "later@example.eu", organisation="Later")
    assert await site.sql("SELECT count(*) FROM mail_link WHERE email = $1", email) == [(0,)], "and is swept up"


async def test_one_link_at_once_makes_one_account(site: Site) -> None:
    visitors = [site.visitor() for _ in range(6)]
    for visitor in visitors:
        await visitor.csrf_token()
    link = link_secret(await visitors[0].ask_for_link("/sign-up", "race@example.eu", organisation="Race"))
    answers = await at_once(*(one.post("/sign-up/confirm", link=link, password=PASSWORD) for one in visitors))
    assert sorted(answer.status_code for answer in answers) == [303, *[410] * 5]
    assert await site.sql("SELECT count(*) FROM account WHERE email = 'race@example.eu'") == [(1,)]
    assert await site.sql("SELECT count(*) FROM tenant WHERE name = 'Race'") == [(1,)]


async def test_an_address_is_sent_five_links_an_hour_and_the_answer_stays_the_same(site: Site) -> None:
    email = "bombed@example.eu"
    answers = [await site.visitor().post("/sign-up", organisation="Bomb", email=email) for _ in range(8)]
    assert {answer.status_code for answer in answers} == {200}
    assert all("We sent an e-mail" in answer.text for answer in answers)
    assert await site.sql("SELECT count(*) FROM mail_link WHERE email = $1", email) == [(5,)]
    await letters.letter_to(email, after=4)
    await site.visitor().ask_for_link("/sign-up", "unbombed@example.eu", organisation="After")
    assert len(letters.letters_to(email)) == 5


async def test_fields_that_nobody_asked_for_have_no_effect(site: Site) -> None:
    visitor, email = site.visitor(), "mass@example.eu"
    extra = {
        "role": "administrator",
        "tenant_id": "00000000-0000-0000-0000-000000000000",
        "welcome_credit_nano": "9" * 15,
        "credit": "1000000",
        "requests_per_minute": "1000000",
        "currency": "JPY",
        "allowed_regions": "us-east",
        "state": "closed",
        "reference": "seed:Demo",
    }
    link = link_secret(await visitor.ask_for_link("/sign-up", email, organisation="Mass", **extra))
    await visitor.post("/sign-up/confirm", link=link, password=PASSWORD, email="other@example.eu", **extra)
    ((role, currency, limit, regions, reference, funds),) = await site.sql(
        "SELECT m.role, t.currency, t.requests_per_minute, t.allowed_regions, t.reference, b.funds_nano "
        "FROM member m JOIN tenant t ON t.id = m.tenant_id JOIN budget b ON b.tenant_id = t.id "
        "WHERE m.email = 'mass@example.eu'"
    )
    assert (role, currency, limit, sorted(regions), reference, funds) == (
        "owner",
        "EUR",
        600,
        ["de-fra", "fr-par"],
        None,
        10 * 10**9,
    )


async def test_a_known_address_leaves_nothing_behind_and_its_reader_is_told(site: Site) -> None:
    _, email = await site.member()
    before = [await site.count(table) for table in TABLES]
    visitor = site.visitor()
    known = len(letters.letters_to(email))
    answer = await visitor.post("/sign-up", organisation="Second", email=email.upper())
    assert answer.status_code == 200
    letter = await letters.letter_to(email, after=known)
    assert letter["Subject"] == "You have an account already"
    assert letters.link_in(letter) == f"{site.settings.portal_url}/sign-in"
    assert "__Host-chappe" not in visitor.cookies
    assert [await site.count(table) for table in TABLES] == before


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"organisation": ""}, "organisation"),
        ({"organisation": " "}, "organisation"),
        ({"organisation": "x" * 101}, "organisation"),
        ({"organisation": "x" * 20_000}, "organisation"),
        ({"organisation": "a\0b"}, "organisation"),
        ({"organisation": "a\u202egnp.exe"}, "organisation"),
        ({"email": "nobody"}, "email"),
        ({"email": "a\0@b.example"}, "email"),
        ({"email": "a" * 300 + "@b.example"}, "email"),
        ({"email": "mia@example.eu\r\nbcc: all@example.eu"}, "email"),
        ({"email": "mia@example.eu,all@example.eu"}, "email"),
        ({"email": '"mia"@example.eu'}, "email"),
        ({"email": "mia@-example.eu"}, "email"),
    ],
)
async def test_what_cannot_work_is_named_at_its_field(site: Site, changed: dict[str, str], field: str) -> None:
    visitor = site.visitor()
    answer = await visitor.post("/sign-up", **GOOD | {"email": "refused@example.eu"} | changed)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    assert len(re.findall(r'aria-invalid="true"', answer.text)) == 1
    assert await site.sql("SELECT count(*) FROM mail_link WHERE email = 'refused@example.eu'") == [(0,)]


@pytest.mark.parametrize(
    "password",
    [
        "",
        "short",
        "x" * 257,
        "tidal lantern\0mosaic",
        "password1234",
        "123456789012",
        "aaaaaaaaaaaaaaa",
        "refused@example.eu12",
    ],
)
@pytest.mark.parametrize("page", ["/sign-up/confirm", "/reset-password"])
async def test_a_poor_password_is_named_and_leaves_the_link_good(site: Site, page: str, password: str) -> None:
    visitor, email = site.visitor(), "refused@example.eu"
    await site.sql("DELETE FROM mail_link WHERE email = $1", email)
    secret = await _plant_link(site, page, email)
    answer = await visitor.post(page, link=secret, password=password)
    assert answer.status_code == 422, answer.text
    assert 'id="password-error"' in answer.text
    assert not password or password not in answer.text
    assert await site.sql("DELETE FROM mail_link WHERE email = $1 RETURNING 1", email) == [(1,)]
    assert await site.sql("SELECT count(*) FROM account WHERE email = $1", email) == [(0,)]


@pytest.mark.parametrize(
    "path",
    [
        *("/sign-up", "/sign-up/confirm", "/forgot-password", "/reset-password"),
        *("/sign-in", "/console/sign-in", "/sign-out", "/preferences"),
    ],
)
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(b"organisation=%ff%fe&email=raw@example.eu&password=tidal+lantern+42", 400, id="not UTF-8"),
        pytest.param(b"organisation=%ed%a0%80&email=raw@example.eu&password=tidal+lantern+42", 400, id="surrogate"),
        pytest.param(b"organisation=\xc3\x28&email=raw@example.eu&password=tidal+lantern+42", 400, id="raw bytes"),
        pytest.param(b"x=" + b"x" * 70_000, 413, id="over the size limit"),
        pytest.param(b"email=a%00b&password=%00&organisation=%00&next=%00&back=%00", None, id="NUL"),
        pytest.param(b"email=a&email=b&password=a&password=b", None, id="twice"),
        pytest.param(b"&".join(b"f%d=x" % n for n in range(5000)), None, id="many fields"),
        pytest.param(b"email", None, id="no value"),
    ],
)
async def test_a_body_that_is_no_form_of_ours_gets_a_page_and_stores_nothing(
    site: Site, path: str, raw: bytes, status: int | None
) -> None:
    """Where it is a form after all, with nothing in it, signing out and preferences have nothing against it."""
    visitor = site.visitor()
    token = (await visitor.csrf_token()).encode()
    before = await site.count("tenant"), await site.count("member_session")
    answer = await _post_raw(visitor, path, b"_csrf_token=" + token + b"&" + raw)
    refused = {"/sign-up": 422, "/sign-in": 403, "/console/sign-in": 403, "/forgot-password": 422}
    refused |= {"/sign-up/confirm": 410, "/reset-password": 410}
    assert answer.status_code == (status or refused.get(path, 303)), answer.text
    assert answer.status_code == 303 or answer.headers["content-type"] == "text/html; charset=utf-8"
    assert (await site.count("tenant"), await site.count("member_session")) == before


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"organisation": "x", "email": "json@example.eu", "password": "tidal lantern 42"}'),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1'),
        ("multipart/form-data; boundary=\xff", b"--x--"),
        ("application/x-www-form-urlencoded; charset=utf-16", b"\xff\xfe"),
        ("text/plain", b"x"),
        ("", b"x"),
    ],
)
@pytest.mark.parametrize("by_header", [True, False])
async def test_other_content_types_get_a_page(site: Site, content_type: str, body: bytes, by_header: bool) -> None:
    visitor = site.visitor()
    token = await visitor.csrf_token()
    headers = {"content-type": content_type, **({"x-csrftoken": token} if by_header else {})}
    answer = await _post_raw(visitor, "/sign-up", body, **headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


async def test_closed_sign_up_makes_nothing(site: Site) -> None:
    async with site.strict(sign_up_open=False) as closed:
        visitor = closed.visitor()
        assert "/sign-up" not in (await visitor.get("/sign-in")).text
        assert "Sign-up is closed" in (await visitor.get("/sign-up")).text
        answer = await visitor.post("/sign-up", **GOOD | {"email": "closed@example.eu"})
        assert answer.status_code == 403
    assert await site.sql("SELECT count(*) FROM account WHERE email = 'closed@example.eu'") == [(0,)]


@pytest.mark.parametrize("path", ["/sign-up", "/forgot-password"])
async def test_links_that_one_address_asks_for_are_bounded(site: Site, path: str) -> None:
    async with site.strict(links_per_minute=2) as strict:
        answers = [
            await strict.visitor().post(path, **GOOD | {"email": f"many-{number}@example.eu"}) for number in range(4)
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
        assert 1 <= int(answers[3].headers["retry-after"]) <= 60
        assert "many-3@example.eu" in answers[3].text, "what was typed is still there"


async def test_without_mail_nobody_is_promised_a_link(site: Site) -> None:
    async with site.strict(smtp_url="") as mute:
        visitor = mute.visitor()
        page = await visitor.get("/sign-in")
        assert "/sign-up" not in page.text and "/forgot-password" not in page.text
        assert "Sign-up is closed" in (await visitor.get("/sign-up")).text
        assert "This installation sends no e-mail" in (await visitor.get("/forgot-password")).text
        for path in ("/sign-up", "/forgot-password"):
            assert (await visitor.post(path, **GOOD)).status_code == 403


async def test_signing_up_while_signed_in_ends_the_session_before(site: Site) -> None:
    visitor, _ = await site.member()
    before = site.visitor()
    before.cookies = dict(visitor.cookies)
    assert (await visitor.get("/sign-up")).status_code == 303
    await visitor.sign_up("Another")
    assert await is_signed_in(visitor)
    assert not await is_signed_in(before)


async def _plant_link(site: Site, page: str, email: str) -> str:
    """A link that no letter held."""
    purpose, organisation = (Purpose.SIGN_UP, "Refused") if page == "/sign-up/confirm" else (Purpose.RESET, None)
    async with site.database.operator() as session:
        secret = await make_link(session, purpose, email, organisation=organisation)
    assert secret is not None
    return secret


async def _post_raw(visitor: Any, path: str, body: bytes, **headers: str) -> Any:
    sent = {
        "content-type": "application/x-www-form-urlencoded",
        "origin": visitor.portal_url,
        "accept": "text/html",
        **headers,
    }
    return await visitor.request("POST", path, headers=sent, content=body)
