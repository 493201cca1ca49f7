"""Alerts of a running control plane: crossings become letters in the reader's language, and webhooks, once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text

from chappe_billing.alerts import queries
from chappe_billing.alerts.queries import Settings
from chappe_billing.alerts.service import check_alerts, get_settings, put_settings
from chappe_billing.budgets import queries as budgets
from chappe_control.mail.service import Mail
from chappe_control.notices.letters import WRITERS
from chappe_control.notices.service import Office, tell_waiting
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import TENANT, encode_id, new_id
from chappe_store.outbox import enqueue
from chappe_store.session import Database, TenantScope
from chappe_tenants.members.service import Role, put_member
from tests.control.running import hashing_with, quick_hasher
from tests.mail.conftest import PostOffice, open_office, post_office
from tests.webhooks.conftest import Post, make_tenant, post

__all__ = ["post", "post_office"]
EURO = 1_000_000_000
_PASSWORD = "correct horse battery staple"


class Company:
    """A tenant with an owner who reads German, a billing member who reads French, and others who are not told."""

    def __init__(self, database: Database, scope: TenantScope, office: Office, letters: PostOffice) -> None:
        self.database, self.scope, self.office, self.letters = database, scope, office, letters
        self.name = ""

    async def fund(self, euros: int) -> None:
        async with self.database.operator() as session:
            await budgets.add_funds(session, self.scope.tenant_id, euros * EURO)

    async def spend(self, euros: int, days_ago: int = 0) -> None:
        """As if it had been posted then, in sums alone."""
        async with self.database.ingest() as session:
            await session.execute(
                text(
                    "INSERT INTO usage_hour (tenant_id, hour, project_id, key_id, listing_id, region, requests, "
                    "prompt_tokens, cached_tokens, completion_tokens, amount_nano, written_off_nano) VALUES (:tenant, "
                    "date_trunc('hour', now() - CAST(:ago AS interval)), :id, :id, :id, 'fr-par', 1, 1, 0, 1, :nano, 0)"
                ),
                {
                    "tenant": self.scope.tenant_id,
                    "ago": timedelta(days=days_ago),
                    "id": new_id(),
                    "nano": euros * EURO,
                },
            )

    async def set(self, **values: Any) -> Settings:
        async with self.database.tenant(self.scope) as session:
            return await put_settings(session, self.scope, Settings(**values))

    async def tell(self) -> list[tuple[str, str]]:
        """Who got which letter, by all that there was to tell."""
        before = len(self.letters.taken)
        await tell_waiting(self.database, self.office)
        while await self.office.mail.send_due():
            pass
        return [(str(one["X-To"]), str(one["Subject"])) for one in self.letters.taken[before:]]

    async def standing(self) -> list[tuple[str, bool]]:
        async with self.database.tenant(self.scope) as session:
            found = await queries.list_alerts(session, self.scope, limit=50)
        return [(one.kind, one.recovered_at is None) for one in found]

    async def enqueue(self, topic: str, **payload: Any) -> None:
        async with self.database.operator() as session:
            await enqueue(session, topic, [{"tenant_id": encode_id(TENANT, self.scope.tenant_id), **payload}])


@pytest.fixture
async def company(database: Database, post_office: PostOffice) -> AsyncIterator[Company]:
    scope = await make_tenant(database, country="FR")
    async with database.operator() as session:
        with hashing_with(quick_hasher()):
            for email, role in (
                ("olga@example.eu", Role.OWNER),
                ("bill@example.eu", Role.BILLING),
                ("dev@example.eu", Role.DEVELOPER),
            ):
                await put_member(session, scope, email=email, password=_PASSWORD, role=role)
        await budgets.open_budget(session, scope.tenant_id, "EUR")
    async with database.tenant(scope) as session:
        await session.execute(text("UPDATE member SET language = 'de' WHERE role = 'owner'"))
    mail: Mail = open_office(database, post_office.port, dict(WRITERS))
    yield Company(database, scope, Office(mail, "https://portal.example"), post_office)


async def test_a_low_balance_is_told_once_and_again_after_it_recovered(company: Company) -> None:
    await company.set(low_balance_nano=10 * EURO, low_balance_days=None)
    await company.fund(5)
    assert (await check_alerts(company.database), await check_alerts(company.database)) == (1, 0)
    assert sorted(to for to, _ in await company.tell()) == ["bill@example.eu", "olga@example.eu"]
    await company.fund(5)
    assert await check_alerts(company.database) == 0, "at the limit again, and not yet away from it"
    assert await company.standing() == [("balance.low", True)]
    await company.fund(1)
    await check_alerts(company.database)
    assert await company.standing() == [("balance.low", False)]
    await company.fund(-2)
    assert await check_alerts(company.database) == 1
    assert len(await company.tell()) == 2


async def test_ten_processes_at_once_tell_a_crossing_once(company: Company) -> None:
    await company.set(low_balance_nano=10 * EURO)
    assert sum(await asyncio.gather(*(check_alerts(company.database) for _ in range(10)))) == 1
    await asyncio.gather(*(tell_waiting(company.database, company.office) for _ in range(4)))
    assert len(await company.tell()) == 2


async def test_letters_are_in_the_readers_language_and_figures_as_there(company: Company) -> None:
    """The owner's own, and for who never signed in the organisation's country's."""
    await company.fund(1234)
    await company.set(low_balance_nano=2000 * EURO)
    await check_alerts(company.database)
    await company.tell()
    texts = {str(one["X-To"]): one.get_body(("plain",)) for one in company.letters.taken}
    german, french = (texts[to] for to in ("olga@example.eu", "bill@example.eu"))
    assert german is not None and french is not None
    assert "1.234,00\N{NO-BREAK SPACE}€" in german.get_content()
    assert "1\N{NARROW NO-BREAK SPACE}234,00\N{NO-BREAK SPACE}€" in french.get_content()
    assert {str(one["X-To"]): one["Content-Language"] for one in company.letters.taken} == {
        "olga@example.eu": "de",
        "bill@example.eu": "fr",
    }


async def test_days_left_and_a_forecast_cross_by_what_is_spent(company: Company) -> None:
    await company.fund(100)
    await company.set(forecast_limit_nano=1, low_balance_days=7)
    assert await check_alerts(company.database) == 0
    for day in range(8):
        await company.spend(20, day)
    assert await check_alerts(company.database) == 2
    assert sorted(await company.standing()) == [("balance.low", True), ("forecast.exceeded", True)]


async def test_who_hears_is_the_tenants_to_say(company: Company) -> None:
    await company.set(low_balance_nano=EURO, to_members=False, emails=("Boss@Example.eu",), language="en")
    await check_alerts(company.database)
    ((to, subject),) = await company.tell()
    assert to == "boss@example.eu" and subject.startswith("The balance of")
    await company.set(low_balance_nano=EURO, muted=("payment.failed",))
    await company.enqueue(
        "payment.failed", invoice_id=None, amount="1.000000000", currency="EUR", reason="card_declined", attempt=1
    )
    assert await company.tell() == []


async def test_failed_payments_are_kept_and_told_until_one_comes_in(company: Company) -> None:
    invoice = str(new_id())
    failed = {"invoice_id": invoice, "amount": "12.500000000", "currency": "EUR", "reason": "card_declined"}
    await company.enqueue("payment.succeeded", **{**failed, "reason": None})
    assert await company.tell() == [], "nobody was told that it had failed"
    for attempt in (1, 2):
        await company.enqueue("payment.failed", **failed, attempt=attempt)
    assert len(await company.tell()) == 4
    await company.enqueue("payment.succeeded", **failed)
    assert len(await company.tell()) == 2
    async with company.database.tenant(company.scope) as session:
        found = await session.execute(text("SELECT invoice_id, recovered_at IS NULL FROM payment_failure"))
        assert [tuple(row) for row in found] == [(UUID(invoice), False)] * 2


async def test_a_budgets_threshold_reaches_people_and_programs(company: Company, post: Post) -> None:
    payload = {
        "quota_id": "quo_1",
        "level": "tenant",
        "name": None,
        "model": None,
        "percent": 75,
        "hard_stop": True,
        "budget": "100.000000000",
        "spent": "76.000000000",
        "currency": "EUR",
    }
    await company.enqueue("budget.threshold_reached", **payload)
    await company.enqueue("budget.threshold_reached", tenant_id=encode_id(TENANT, post.scope.tenant_id), **payload)
    assert len(await company.tell()) == 2
    await post.deliver()
    (taken,) = post.receiver.taken
    told = msgspec.json.decode(taken.body)
    assert (told["type"], told["data"]["percent"]) == ("budget.threshold_reached", 75)


async def test_killed_while_it_is_told_nothing_is_told_twice(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash after the letters were ordered and before it was noted undoes both."""
    await company.set(low_balance_nano=EURO)
    await check_alerts(company.database)

    async def die(*_: object) -> None:
        raise ConnectionAbortedError

    with monkeypatch.context() as patched, pytest.raises(ConnectionAbortedError):
        patched.setattr("chappe_store.outbox.mark_delivered", die)
        await tell_waiting(company.database, company.office)
    assert await company.tell() == []
    async with company.database.operator() as session:
        await session.execute(text("UPDATE outbox SET due_at = now() WHERE delivered_at IS NULL"))
    assert len(await company.tell()) == 2


async def test_settings_are_checked_and_anothers_are_not_seen(company: Company) -> None:
    assert (await company.set(emails=("A@example.eu", "a@example.eu"))).emails == ("a@example.eu",)
    for wrong in (
        {"emails": ("nobody",)},
        {"emails": tuple(f"a{n}@example.eu" for n in range(11))},
        {"muted": ("organisation.suspended",)},
        {"low_balance_days": 91},
        {"low_balance_nano": -1},
        {"forecast_limit_nano": 0},
        {"language": "nl"},
    ):
        with pytest.raises(Invalid):
            await company.set(**wrong)
    other = await make_tenant(company.database)
    async with company.database.tenant(other) as session:
        assert await get_settings(session, company.scope) == Settings()
        assert await queries.list_alerts(session, company.scope, limit=9) == []
