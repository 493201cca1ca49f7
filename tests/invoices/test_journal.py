"""A month's journal balances, is the same each time, and shows what is deferred apart from what is accrued."""

import csv
import io
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_billing.journal.entries import ACCOUNTS, ACCRUED_REVENUE, Movement, as_csv, journal_of
from chappe_billing.journal.service import number_accounts, read_journal
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.money import parse_nano
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from tests.invoices.conftest import CENT, EURO, MakeBuyer, Office

AMOUNTS = st.integers(-(10**15), 10**15)


@given(
    st.dictionaries(st.tuples(st.sampled_from(["usage", "top_up"]), st.sampled_from(ACCOUNTS[:-1])), AMOUNTS),
    st.integers(0, 10**15),
    st.integers(0, 10**15),
)
def test_debits_are_credits(moved: dict[tuple[str, str], int], start: int, end: int) -> None:
    balance: dict[str, int] = {}
    for (kind, _), amount in moved.items():
        balance[kind] = balance.get(kind, 0) + amount
    movements = [Movement(kind, account, None, amount) for (kind, account), amount in moved.items()]
    movements += [Movement(kind, ACCRUED_REVENUE, None, -amount) for kind, amount in balance.items()]
    lines = journal_of(movements, last_day=date(2026, 11, 30), currency="EUR", accrued_nano=(start, end), numbers={})
    assert sum(line.debit_nano for line in lines) == sum(line.credit_nano for line in lines)
    assert lines == journal_of(
        movements[::-1], last_day=date(2026, 11, 30), currency="EUR", accrued_nano=(start, end), numbers={}
    )


async def test_a_month_is_exported_with_the_operators_numbers(office: Office, buyer: MakeBuyer) -> None:
    prepaid, postpaid = await buyer(), await buyer(credit_nano=100 * EURO)
    await office.pay_in(prepaid, 10 * EURO, 2 * EURO)
    used = await office.use(prepaid) + await office.use(postpaid, times=2)
    month = await office.month_passes()
    async with office.database.operator() as session:
        await number_accounts(session, DEFAULT_LEGAL_ENTITY_ID, {"revenue": "4400", "vat_payable": "1776"})
        with pytest.raises(Invalid):
            await number_accounts(session, DEFAULT_LEGAL_ENTITY_ID, {"petty_cash": "1"})
    async with office.database.audit() as session:
        exported = as_csv(await read_journal(session, DEFAULT_LEGAL_ENTITY_ID, month))
        assert as_csv(await read_journal(session, DEFAULT_LEGAL_ENTITY_ID, month)) == exported
        with pytest.raises(Conflict, match="over"):
            await read_journal(session, DEFAULT_LEGAL_ENTITY_ID, date.today().replace(day=1))  # noqa: DTZ011
    rows = list(csv.DictReader(io.StringIO(exported)))
    total = rows.pop()
    assert total["debit"] == total["credit"]
    assert sum(parse_nano(row["debit"]) for row in rows if row["debit"]) == parse_nano(total["debit"])
    revenue = [parse_nano(row["credit"]) for row in rows if row["account"] == "4400"]
    assert sum(revenue) == used
    assert [row["credit"] for row in rows if row["account"] == "1776"] == ["2.000000000"]
    accrued = [parse_nano(row["debit"]) for row in rows if row["name"] == ACCRUED_REVENUE]
    assert accrued == [-await office.funds(postpaid)], "what was used and not invoiced is an asset"
    assert CENT < accrued[0] < EURO
