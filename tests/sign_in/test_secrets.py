"""A password and a session's secret exist only with those who hold them: in no log, no table and no page."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests import letters
from tests.logs import logging_as_in_production
from tests.pages.browser import link_secret
from tests.sign_in.site import OPERATOR, Site

SECRET_PASSWORD = "violet anchor 7 umbrella"
WRONG_PASSWORD = "scarlet anchor 8 umbrella"


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Logging as in production, onto the captured standard error."""
    with logging_as_in_production():
        yield lambda: capsys.readouterr().err


async def test_no_password_and_no_sessions_secret_in_any_table_log_or_page(
    site: Site, logged: Callable[[], str]
) -> None:
    async with site.strict(sign_in_failures_per_minute=3) as strict:
        visitor, pages = strict.visitor(), []
        email = await visitor.sign_up("Secrets", "secrets@example.eu", SECRET_PASSWORD)
        pages.append((await visitor.open("/overview")).text)
        operator = strict.visitor()
        await operator.console_sign_in(OPERATOR)
        for path in ("/sign-in", "/console/sign-in"):
            tries = [await strict.visitor().post(path, email=email, password=WRONG_PASSWORD) for _ in range(4)]
            pages.extend(answer.text for answer in tries)
        pages.append((await strict.visitor().post("/sign-up", email=email, password=WRONG_PASSWORD)).text)
        link = link_secret(await visitor.ask_for_link("/forgot-password", email))
        await strict.visitor().get(f"/sign-in?email={email}&password={WRONG_PASSWORD}")
        strict.clock.advance(60)
        await site.sql("ALTER FUNCTION find_account(text) RENAME TO gone")
        try:
            failed = await strict.visitor().post("/sign-in", email=email, password=SECRET_PASSWORD)
        finally:
            await site.sql("ALTER FUNCTION gone(text) RENAME TO find_account")
        assert failed.status_code == 500
        secrets = [
            SECRET_PASSWORD,
            WRONG_PASSWORD,
            visitor.cookies["__Host-chappe"],
            operator.cookies["__Host-chappe-console"],
            link,
        ]
    log, tables, shown = logged(), await _everything(site), "".join([*pages, failed.text])
    assert "internal_error" in log, "the log was captured"
    assert email in tables and "$argon2id$" in tables, "the search sees what is there"
    assert email in shown
    for secret in secrets:
        for trace in (secret, secret.encode().hex(), secret.replace(" ", "+"), secret[6:]):
            assert trace not in log
            assert trace not in tables
            assert trace not in shown
    assert email not in log


async def test_the_link_in_a_letter_that_waits_opens_nothing_for_a_reader_of_the_database(site: Site) -> None:
    _, email = await site.member()
    before = await site.sql("SELECT id FROM outbox")
    async with site.strict(smtp_url="smtp://127.0.0.1:1") as strict:
        assert (await strict.visitor().post("/forgot-password", email=email)).status_code == 200
        ((payload,),) = await site.sql(
            "SELECT payload::text FROM outbox WHERE id <> ALL ($1)", [row[0] for row in before]
        )
    assert "sealed" in payload
    for readable in (email, "reset-password", "password_reset", "http"):
        assert readable not in payload
    await site.sql("UPDATE outbox SET due_at = now() WHERE delivered_at IS NULL AND topic = 'mail'")
    letter = await letters.letter_to(email, after=1)
    assert link_secret(letters.link_in(letter)) not in await _everything(site)


async def _everything(site: Site) -> str:
    tables = await site.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [await site.sql(f'SELECT row_to_json(t)::text FROM "{table}" t') for (table,) in tables]
    return json.dumps([row for part in rows for row in part], ensure_ascii=False)
