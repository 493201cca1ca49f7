"""What a tenant's purchases of a day are taxed by: who sells, who buys, what the register said, the day's rate."""

import json
from datetime import date, timedelta

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from chappe_billing.tax.models import VatAnswer
from chappe_billing.tax.queries import insert_answer, put_one_stop_shop, read_rates
from chappe_billing.tax.service import rule, schedule_rate, treatment_of, withdraw_rate
from chappe_billing.tax.treatment import TaxCategory, TaxTreatment
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import TenantId, new_id
from chappe_store.queries import read_now
from chappe_store.session import Database, TenantScope
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID, LegalEntity
from tests.tax.conftest import MakeBuyer


async def today(database: Database) -> date:
    async with database.operator() as session:
        return (await read_now(session)).date()


async def answer(database: Database, tenant_id: TenantId, number: str, outcome: str) -> None:
    async with database.operator() as session:
        await insert_answer(
            session, VatAnswer(tenant_id=tenant_id, id=new_id(), vat_number=number, outcome=outcome, source="operator")
        )


async def test_a_buyer_of_the_sellers_country_pays_its_rate_of_the_day(database: Database, buyer: MakeBuyer) -> None:
    tenant_id = await buyer(country="FR")
    now = await today(database)
    async with database.operator() as session:
        assert await treatment_of(session, tenant_id, now) == TaxTreatment(TaxCategory.STANDARD, 2000)
        change = now + timedelta(days=40)
        await schedule_rate(session, country="FR", starts_on=change, rate_bp=2100, source="a law")
        assert (await treatment_of(session, tenant_id, change - timedelta(days=1))).rate_bp == 2000
        assert (await treatment_of(session, tenant_id, change)).rate_bp == 2100
        # Parliament thinks again.
        await schedule_rate(session, country="FR", starts_on=change, rate_bp=2050, source="another law")
        assert (await treatment_of(session, tenant_id, change)).rate_bp == 2050
    async with database.tenant(TenantScope(tenant_id)) as session:
        assert (await treatment_of(session, tenant_id, now)).rate_bp == 2000


async def test_a_pending_number_is_undecided_and_a_confirmed_one_reverses_the_charge(
    database: Database, buyer: MakeBuyer
) -> None:
    tenant_id = await buyer(country="DE", vat_number="DE123456789")
    now = await today(database)
    async with database.operator() as session:
        with pytest.raises(Conflict) as raised:
            await treatment_of(session, tenant_id, now)
    assert raised.value.code == "tax_undecided"
    await answer(database, tenant_id, "DE999999999", "confirmed")
    async with database.operator() as session:
        with pytest.raises(Conflict):
            await treatment_of(session, tenant_id, now)
    await answer(database, tenant_id, "DE123456789", "confirmed")
    async with database.operator() as session:
        found = await treatment_of(session, tenant_id, now)
    assert (found.category, found.rate_bp, found.exemption_code) == (TaxCategory.REVERSE_CHARGE, 0, "VATEX-EU-AE")
    await answer(database, tenant_id, "DE123456789", "invalid")
    async with database.operator() as session:
        assert (await treatment_of(session, tenant_id, now)).rate_bp == 2000
        await put_one_stop_shop(session, DEFAULT_LEGAL_ENTITY_ID, uses=True)
        assert (await treatment_of(session, tenant_id, now)).rate_bp == 1900


async def test_without_a_country_on_either_side_nothing_is_guessed(database: Database, buyer: MakeBuyer) -> None:
    nobody_knows, known = await buyer(country=None), await buyer(country="FR")
    now = await today(database)
    async with database.operator() as session:
        with pytest.raises(Conflict, match="organisation's country"):
            await treatment_of(session, nobody_knows, now)
        await session.execute(update(LegalEntity).values(country=None))
        with pytest.raises(Conflict, match="seller's country"):
            await treatment_of(session, known, now)


async def test_the_operator_rules_where_no_rule_decides_and_takes_it_back(database: Database, buyer: MakeBuyer) -> None:
    tenant_id = await buyer(country="RE")
    scope, now = TenantScope(tenant_id), await today(database)
    async with database.operator() as session:
        await rule(session, scope, category=TaxCategory.STANDARD, rate_bp=850, reason="CGI, article 296")
        assert (await treatment_of(session, tenant_id, now)).rate_bp == 850
        with pytest.raises(Invalid):
            await rule(session, scope, category=TaxCategory.REVERSE_CHARGE, rate_bp=850, reason="?")
        with pytest.raises(Invalid):
            await rule(session, scope, category=None, rate_bp=0, reason="?", starts_on=now - timedelta(days=1))
        await rule(session, scope, category=None, rate_bp=0, reason="moved to Paris")
        with pytest.raises(Conflict):
            await treatment_of(session, tenant_id, now)


async def test_a_rate_is_taken_back_before_it_begins_and_never_after(database: Database, buyer: MakeBuyer) -> None:
    tenant_id = await buyer(country="FR")
    change = await today(database) + timedelta(days=40)
    async with database.operator() as session:
        for rate_bp in (2100, 2150):
            await schedule_rate(session, country="FR", starts_on=change, rate_bp=rate_bp, source="a law")
        await withdraw_rate(session, country="FR", starts_on=change)
        assert (await treatment_of(session, tenant_id, change)).rate_bp == 2000
        with pytest.raises(NotFound):
            await withdraw_rate(session, country="FR", starts_on=change)
        await schedule_rate(session, country="FR", starts_on=change, rate_bp=2050, source="a better law")
        assert (await treatment_of(session, tenant_id, change)).rate_bp == 2050
        with pytest.raises(Conflict) as begun:
            await withdraw_rate(session, country="FR", starts_on=date(2026, 1, 1))
        assert begun.value.code == "rate_in_force"
    with pytest.raises(DBAPIError, match="has begun"):
        async with database.operator() as session:
            await session.execute(
                text("INSERT INTO vat_rate_withdrawal SELECT id FROM vat_rate WHERE starts_on = '2026-01-01' LIMIT 1")
            )
    for change_of in ("UPDATE vat_rate_withdrawal SET withdrawn_at = now()", "DELETE FROM vat_rate_withdrawal"):
        with pytest.raises(DBAPIError):
            async with database.operator() as session:
                await session.execute(text(change_of))


@pytest.mark.parametrize(("seller", "buyer_country"), [("FR", "DE"), ("DE", "FR")])
async def test_no_rate_changes_under_a_document_that_is_issued(
    database: Database, buyer: MakeBuyer, seller: str, buyer_country: str
) -> None:
    """Of a supply on the 20th of a month to come, as a cut-off in the future would make one."""
    tenant_id = await buyer(country=buyer_country)
    supplied_on = (await today(database)).replace(day=20) + timedelta(days=62)
    before, after = supplied_on - timedelta(days=1), supplied_on + timedelta(days=1)
    async with database.operator() as session:
        await schedule_rate(session, country="FR", starts_on=before, rate_bp=2100, source="a law")
        await session.execute(
            text(
                "INSERT INTO invoice (id, kind, legal_entity_id, tenant_id, currency, minor_digits, series, ordinal, "
                "number, issued_on, period_to, cut_off_at, net_minor, tax_minor, gross_minor, content) "
                "SELECT :id, 'invoice', legal_entity_id, id, currency, 2, 'I', 1, 'I-1', now()::date, :day, now(), "
                "1, 0, 1, CAST(:content AS jsonb) FROM tenant WHERE id = :tenant"
            ),
            {
                "id": new_id(),
                "day": supplied_on,
                "tenant": tenant_id,
                "content": json.dumps({"seller": {"country": seller}, "buyer": {"country": buyer_country}}),
            },
        )
        for work in (
            schedule_rate(session, country="FR", starts_on=supplied_on, rate_bp=2200, source="a law"),
            withdraw_rate(session, country="FR", starts_on=before),
        ):
            with pytest.raises(Conflict) as used:
                await work
            assert used.value.code == "rate_in_use"
        await schedule_rate(session, country="FR", starts_on=after, rate_bp=2200, source="a law")
        await schedule_rate(session, country="ES", starts_on=supplied_on, rate_bp=2200, source="a law")


async def test_a_rate_begins_in_the_future_and_is_never_changed(database: Database) -> None:
    now = await today(database)
    async with database.operator() as session:
        for starts_on, rate_bp, country in ((now, 2000, "FR"), (now + timedelta(days=1), 0, "FR"),
                                            (now + timedelta(days=1), 2000, "XX")):  # fmt: skip
            with pytest.raises(Invalid):
                await schedule_rate(session, country=country, starts_on=starts_on, rate_bp=rate_bp, source="x")
        assert (await read_rates(session, now))["FI"] == 2550
    for role_of in (database.operator, database.operator):
        with pytest.raises(DBAPIError):
            async with role_of() as session:
                await session.execute(text("UPDATE vat_rate SET rate_bp = 1"))


async def test_a_tenant_sees_its_own_answers_and_nobody_elses(database: Database, buyer: MakeBuyer) -> None:
    mine, others = await buyer(country="DE", vat_number="DE123456789"), await buyer(country="DE")
    await answer(database, mine, "DE123456789", "confirmed")
    for tenant_id, expected in ((mine, 1), (others, 0)):
        async with database.tenant(TenantScope(tenant_id)) as session:
            assert await session.scalar(text("SELECT count(*) FROM vat_answer")) == expected
            with pytest.raises(DBAPIError):
                await session.execute(text("INSERT INTO tax_ruling VALUES (NULL)"))
