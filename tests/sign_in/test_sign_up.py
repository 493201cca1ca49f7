"""Signing up makes one organisation with all that it needs, or nothing at all."""

import re
from typing import Any

import pytest

from chappe_tenants.passwords import verify_password
from tests.pages.browser import PASSWORD
from tests.sign_in.site import Site, at_once, is_signed_in

TABLES = ("tenant", "project", "budget", "account", "member", "ledger_transaction")
GOOD = {"organisation": "Société Exemple", "email": "first@example.eu", "password": PASSWORD}


async def test_sign_up_makes_an_organisation_with_its_owner_signed_in(site: Site) -> None:
    visitor = site.visitor()
    answer = await visitor.post("/sign-up", **GOOD)
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


async def test_fields_that_nobody_asked_for_have_no_effect(site: Site) -> None:
    visitor = site.visitor()
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
    await visitor.post("/sign-up", **GOOD | {"email": "mass@example.eu", "organisation": "Mass"}, **extra)
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


async def test_a_known_address_leaves_nothing_behind(site: Site) -> None:
    _, email = await site.member()
    before = [await site.count(table) for table in TABLES]
    visitor = site.visitor()
    answer = await visitor.post("/sign-up", organisation="Second", email=email.upper(), password=PASSWORD)
    assert answer.status_code == 422
    assert "If you have one already, sign in." in answer.text
    assert "__Host-chappe" not in visitor.cookies
    after = [await site.count(table) for table in TABLES]
    assert after == before


async def test_one_address_at_once_makes_one_account(site: Site) -> None:
    visitors = [site.visitor() for _ in range(6)]
    for visitor in visitors:
        await visitor.csrf_token()
    answers = await at_once(*(visitor.post("/sign-up", **GOOD | {"email": "race@example.eu"}) for visitor in visitors))
    assert sorted(answer.status_code for answer in answers) == [303, *[422] * 5]
    assert await site.sql("SELECT count(*) FROM account WHERE email = 'race@example.eu'") == [(1,)]


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
        ({"password": ""}, "password"),
        ({"password": "short"}, "password"),
        ({"password": "x" * 257}, "password"),
        ({"password": "tidal lantern\0mosaic"}, "password"),
        ({"password": "password1234"}, "password"),
        ({"password": "123456789012"}, "password"),
        ({"password": "aaaaaaaaaaaaaaa"}, "password"),
        ({"password": "refused@example.eu12"}, "password"),
    ],
)
async def test_what_cannot_work_is_named_at_its_field(site: Site, changed: dict[str, str], field: str) -> None:
    visitor = site.visitor()
    answer = await visitor.post("/sign-up", **GOOD | {"email": "refused@example.eu"} | changed)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    assert len(re.findall(r'aria-invalid="true"', answer.text)) == 1
    typed = changed.get("password")
    assert not typed or typed not in answer.text
    assert await site.sql("SELECT count(*) FROM account WHERE email = 'refused@example.eu'") == [(0,)]


@pytest.mark.parametrize("path", ["/sign-up", "/sign-in", "/console/sign-in", "/sign-out", "/preferences"])
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
    refused = {"/sign-up": 422, "/sign-in": 403, "/console/sign-in": 403}
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


async def test_sign_ups_of_one_address_are_bounded(site: Site) -> None:
    async with site.strict(sign_ups_per_minute=2) as strict:
        answers = [
            await strict.visitor().post("/sign-up", **GOOD | {"email": f"many-{number}@example.eu"})
            for number in range(4)
        ]
        assert [answer.status_code for answer in answers] == [303, 303, 429, 429]
        assert 1 <= int(answers[3].headers["retry-after"]) <= 60
        assert "many-3@example.eu" in answers[3].text, "what was typed is still there"


async def test_signing_up_while_signed_in_ends_the_session_before(site: Site) -> None:
    visitor, _ = await site.member()
    before = site.visitor()
    before.cookies = dict(visitor.cookies)
    assert (await visitor.get("/sign-up")).status_code == 303
    await visitor.sign_up("Another")
    assert await is_signed_in(visitor)
    assert not await is_signed_in(before)


async def _post_raw(visitor: Any, path: str, body: bytes, **headers: str) -> Any:
    sent = {
        "content-type": "application/x-www-form-urlencoded",
        "origin": visitor.portal_url,
        "accept": "text/html",
        **headers,
    }
    return await visitor.request("POST", path, headers=sent, content=body)
