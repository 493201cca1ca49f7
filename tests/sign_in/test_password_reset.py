"""Whoever reads an account's mail may choose its password; nobody else, and nobody learns who has an account."""

from tests import letters
from tests.pages.browser import PASSWORD, link_secret
from tests.sign_in.site import Site, at_once, is_signed_in, try_sign_in

NEW = "harbour pencil 5 thunder"


async def test_the_new_password_alone_opens_and_whoever_was_signed_in_is_out(site: Site) -> None:
    laptop, email = await site.member()
    visitor = site.visitor()
    path = await visitor.ask_for_link("/forgot-password", email)
    page = await visitor.get(path)
    assert page.status_code == 200 and email in page.text
    assert await is_signed_in(laptop), "looking at the link changes nothing"
    answer = await visitor.post("/reset-password", link=link_secret(path), password=NEW)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "Your password is changed." in (await visitor.get("/sign-in")).text
    assert not await is_signed_in(laptop)
    assert not await is_signed_in(visitor), "the sign-in decides who enters"
    assert await try_sign_in(site.visitor(), email) == 403
    assert await try_sign_in(site.visitor(), email, NEW) == 303


async def test_the_accounts_reader_is_told_of_the_change(site: Site) -> None:
    _, email = await site.member()
    visitor = site.visitor()
    path = await visitor.ask_for_link("/forgot-password", email)
    known = len(letters.letters_to(email))
    await visitor.post("/reset-password", link=link_secret(path), password=NEW)
    letter = await letters.letter_to(email, after=known)
    assert letter["Subject"] == "Your password was changed"
    assert letters.link_in(letter) == f"{site.settings.portal_url}/forgot-password"


async def test_a_link_works_once_and_ends_the_others(site: Site) -> None:
    _, email = await site.member()
    visitor = site.visitor()
    first, second = [link_secret(await visitor.ask_for_link("/forgot-password", email)) for _ in range(2)]
    assert (await visitor.get(f"/sign-up/confirm?link={first}")).status_code == 410, "it is for a password alone"
    statuses = await at_once(
        *((visitor.post("/reset-password", link=first, password=NEW)) for _ in range(3)),
    )
    assert sorted(answer.status_code for answer in statuses) == [303, 410, 410]
    for link in (first, second):
        assert (await visitor.post("/reset-password", link=link, password=PASSWORD)).status_code == 410
    assert await try_sign_in(site.visitor(), email, NEW) == 303


async def test_a_link_is_over_after_an_hour(site: Site) -> None:
    _, email = await site.member()
    visitor = site.visitor()
    path = await visitor.ask_for_link("/forgot-password", email)
    await site.sql("UPDATE mail_link SET created_at = now() - interval '61 minutes', expires_at = now()")
    assert (await visitor.get(path)).status_code == 410
    assert (await visitor.post("/reset-password", link=link_secret(path), password=NEW)).status_code == 410


async def test_an_address_without_an_account_gets_no_mail(site: Site) -> None:
    stranger = "no-account@example.eu"
    answer = await site.visitor().post("/forgot-password", email=stranger)
    assert answer.status_code == 200
    _, email = await site.member()
    await site.visitor().ask_for_link("/forgot-password", email)
    assert letters.letters_to(stranger) == []
    assert await site.sql("SELECT count(*) FROM mail_link WHERE email = $1", stranger) == [(1,)], "the same was done"


async def test_the_letter_is_in_the_language_of_the_page(site: Site) -> None:
    _, email = await site.member()
    subjects = []
    for language in ("fr", "de"):
        known = len(letters.letters_to(email))
        await site.visitor(language).post("/forgot-password", email=email)
        letter = await letters.letter_to(email, after=known)
        assert letter["Content-Language"] == language
        subjects.append(letter["Subject"])
    assert subjects == ["Choisissez un nouveau mot de passe", "Neues Passwort wählen"]


async def test_the_new_password_lets_nobody_into_a_suspended_organisation(site: Site) -> None:
    _, email = await site.member()
    await site.sql(
        "UPDATE tenant SET state = 'suspended' WHERE id = (SELECT tenant_id FROM member WHERE email = $1)", email
    )
    visitor = site.visitor()
    path = await visitor.ask_for_link("/forgot-password", email)
    assert (await visitor.post("/reset-password", link=link_secret(path), password=NEW)).status_code == 303
    answer = await visitor.post("/sign-in", email=email, password=NEW)
    assert "__Host-chappe" not in visitor.cookies or answer.status_code == 303
