"""A legal entity that changes who bills its customers: what was posted under one is billed by that one, once, and what
was paid for it is gone; nothing before the change is invoiced after it, and nothing after it is missed."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_billing.invoices.queries import list_unbilled
from chappe_billing.invoicing.describing import Dates, within_eras
from chappe_billing.invoicing.fundings import Funding, FundingKind, spent_elsewhere
from chappe_kernel.errors import Conflict
from chappe_kernel.ids import new_id
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID, Payments
from tests.invoices.conftest import CENT, EURO, MakeBuyer, Office


async def unbilled(office: Office) -> int:
    async with office.database.operator() as session:
        return sum(row.amount_nano for row in await list_unbilled(session, limit=100))


async def invoiced(office: Office) -> int:
    return int(
        await office.market.scalar("SELECT coalesce(sum(charged_nano), 0) FROM invoice_part WHERE cut_id IS NOT NULL")
    )


async def test_from_external_on_nothing_before_is_invoiced_and_nothing_after_is_missed(
    office: Office, buyer: MakeBuyer
) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    await office.collects(Payments.EXTERNAL)
    await office.use(customer, times=10)
    with pytest.raises(Conflict) as elsewhere:
        await office.issue(customer)
    assert elsewhere.value.code == "billed_externally" and await unbilled(office) == 0
    await office.collects(Payments.NONE)
    assert await office.issue(customer) == [] and await unbilled(office) == 0
    used = await office.use(customer, times=3)
    assert await unbilled(office) == used
    (content,) = await office.contents(customer)
    assert content.net_minor * CENT == used - used % CENT and content.period_from == datetime.now(UTC).date()
    assert await invoiced(office) == used and await unbilled(office) == 0
    await office.verify()


async def test_into_external_what_was_used_before_is_still_invoiced(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    before = await office.use(customer, times=3)
    await office.collects(Payments.EXTERNAL)
    await office.use(customer, times=5)
    assert await unbilled(office) == before
    assert len(await office.issue(customer)) == 1
    assert await invoiced(office) == before and await unbilled(office) == 0
    with pytest.raises(Conflict) as elsewhere:
        await office.issue(customer)
    assert elsewhere.value.code == "billed_externally"
    await office.verify()


async def test_what_is_posted_late_is_of_whoever_bills_then(office: Office, buyer: MakeBuyer) -> None:
    """Its request was before the change, the posting after it: the feed had it after the change too."""
    customer = await buyer(credit_nano=1000 * EURO)
    await office.collects(Payments.EXTERNAL)
    await office.use(customer, times=2)
    grant = await office.market.ask(customer, 3 * EURO)
    late = office.market.event(customer, grant.grant_id, hold_nano=10**12)
    await office.collects(Payments.NONE)
    await office.market.ingest(late)
    assert await unbilled(office) == late.amount_nano
    before = late.amount_nano + await office.use(customer, times=1)
    grant = await office.market.ask(customer, 3 * EURO)
    later = office.market.event(customer, grant.grant_id, hold_nano=10**12)
    await office.collects(Payments.EXTERNAL)
    await office.market.ingest(later)
    assert await unbilled(office) == before
    await office.issue(customer)
    assert await invoiced(office) == before
    await office.verify()


async def test_a_run_ends_what_was_ours_and_begins_with_the_change(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    ours = await office.use(customer, times=2)
    await office.collects(Payments.EXTERNAL)
    await office.use(customer, times=4)
    month = await office.month_passes()
    run = await office.run(month)
    assert [entry.outcome for entry in await office.log(run)] == ["issued"]
    assert await invoiced(office) == ours
    await office.use(customer, times=1)
    month = await office.month_passes()
    with pytest.raises(Conflict) as elsewhere:
        await office.run(month)
    assert elsewhere.value.code == "billed_externally"
    await office.collects(Payments.NONE)
    ours += await office.use(customer, times=1)
    month = await office.month_passes()
    run = await office.run(month)
    assert [entry.outcome for entry in await office.log(run)] == ["issued"]
    assert await invoiced(office) == ours
    await office.verify()


async def test_what_the_other_system_collected_pays_no_invoice_of_ours(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    await office.collects(Payments.EXTERNAL)
    used = await office.use(customer, times=10)
    await office.pay_in(customer, used)
    await office.collects(Payments.NONE)
    await office.use(customer, times=10)
    (content,) = await office.contents(customer)
    assert (content.gross_minor, content.paid_minor, content.due_minor) == (252, 0, 252)
    await office.pay_in(customer, 100 * CENT)
    await office.use(customer, times=10)
    (content,) = await office.contents(customer)
    assert (content.gross_minor, content.paid_minor) == (252, 100)
    await office.verify()


async def test_whoever_issues_sees_the_change_or_comes_before_it(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(credit_nano=1000 * EURO)
    before = await office.use(customer, times=3)
    after = 0

    async def change() -> None:
        nonlocal after
        await office.collects(Payments.EXTERNAL)
        after = await office.use(customer, times=1)

    async def issue() -> None:
        try:
            await office.issue(customer)
        except Conflict as error:
            assert error.code == "billed_externally"

    await asyncio.gather(change(), *(issue() for _ in range(3)))
    await issue()
    assert await invoiced(office) == before and after
    await office.verify()


async def test_what_was_noted_of_it_never_changes(office: Office) -> None:
    await office.collects(Payments.NONE)
    count = "SELECT count(*) FROM legal_entity_payments WHERE legal_entity_id = :id"
    assert await office.market.scalar(count, id=DEFAULT_LEGAL_ENTITY_ID) == 1, "it collected so before"
    await office.collects(Payments.EXTERNAL)
    assert await office.market.scalar(count, id=DEFAULT_LEGAL_ENTITY_ID) == 2
    for change in ("UPDATE legal_entity_payments SET payments = 'none'", "DELETE FROM legal_entity_payments"):
        with pytest.raises(DBAPIError):
            async with office.database.operator() as session:
                await session.execute(text(change))


_AMOUNTS = st.integers(-100, 1000)


@given(st.lists(_AMOUNTS, max_size=6), st.integers(0, 3000), st.integers(0, 500))
def test_what_was_spent_elsewhere_leaves_the_newest(rests: list[int], spent: int, more: int) -> None:
    fundings = [Funding(new_id(), FundingKind.DEPOSIT, rest) for rest in rests]
    left = spent_elsewhere(fundings, spent)
    positive = sum(rest for rest in rests if rest > 0)
    assert sum(rests) - sum(one.rest_nano for one in left) == min(spent, positive)
    assert [one.id for one in left] == [one.id for one in fundings]
    assert spent_elsewhere(left, more) == spent_elsewhere(fundings, min(spent, positive) + more)


def test_a_period_is_without_the_days_of_another_system() -> None:
    def at(day: int, hour: int = 12) -> datetime:
        return datetime(2026, 10, day, hour, tzinfo=UTC)

    epoch, issued = datetime(1970, 1, 1, tzinfo=UTC), date(2026, 11, 1)
    whole = Dates(issued, date(2026, 10, 1), date(2026, 10, 31))
    ours, theirs = str(Payments.NONE), str(Payments.EXTERNAL)
    assert within_eras(whole, [(epoch, ours)]) == whole
    assert within_eras(whole, [(epoch, theirs), (at(10), ours)]) == Dates(issued, date(2026, 10, 10), whole.period_to)
    assert within_eras(whole, [(epoch, ours), (at(10), theirs)]) == Dates(issued, whole.period_from, date(2026, 10, 10))
    assert within_eras(whole, [(epoch, ours), (at(10), theirs), (at(20), ours)]) == whole
    assert within_eras(whole, [(epoch, ours), (at(1) - timedelta(days=9), theirs), (at(5), ours)]).period_from == date(
        2026, 10, 5
    )
