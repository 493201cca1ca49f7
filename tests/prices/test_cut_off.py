"""A month's end: each term's entry once, in whole nanos, whatever is killed and repeated; then the month is closed."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_billing.audit.service import verify_ledger
from chappe_billing.contract_terms.models import ContractTerm
from chappe_billing.contract_terms.reckoning import TermKind, Tier, shortfall, volume_discount
from chappe_billing.contract_terms.service import agree_term, end_term
from chappe_billing.cut_off.months import months_from
from chappe_billing.cut_off.service import cut_off_all, cut_off_month
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import ContractTermId
from tests.billing.conftest import Customer, Market
from tests.prices.conftest import Operator

AMOUNTS = st.integers(0, 10**15)
TIERS = st.dictionaries(st.integers(0, 10**12), st.integers(0, 10_000), min_size=1, max_size=5).map(
    lambda found: [Tier(*pair) for pair in sorted(found.items())]
)


@given(TIERS, AMOUNTS)
def test_a_volume_discount_is_each_tiers_on_its_own_part(tiers: list[Tier], used: int) -> None:
    exact = Fraction(0)
    for number, tier in enumerate(tiers):
        end = tiers[number + 1].from_nano if number + 1 < len(tiers) else used
        exact += Fraction(max(0, min(end, used) - tier.from_nano) * tier.basis_points, 10_000)
    assert volume_discount(tiers, used) == floor(exact + Fraction(1, 2))


@given(TIERS, st.integers(-(10**9), 10**15))
def test_nobody_gets_back_more_than_they_used(tiers: list[Tier], used: int) -> None:
    assert 0 <= volume_discount(tiers, used) <= max(used, 0)


@given(AMOUNTS, st.integers(-(10**9), 10**15))
def test_a_fee_fills_up_to_what_was_agreed_and_no_further(least: int, paid: int) -> None:
    assert max(paid, least) == paid + shortfall(least, paid)


class Terms:
    """A customer's contract. Months are moved into the past together with what was used in them."""

    def __init__(self, operator: Operator, customer: Customer, this_month: date) -> None:
        self.operator, self.customer, self.this_month = operator, customer, this_month

    async def agree(self, kind: TermKind, **values: Any) -> ContractTerm:
        values.setdefault("first_month", self.this_month)
        async with self.operator.market.database.operator() as session:
            return await agree_term(session, self.customer.scope, kind=kind, **values)

    async def month_passes(self) -> date:
        """What was this month is last month; its first day."""
        await self.operator.move_history(months=1)
        return (self.this_month - timedelta(days=1)).replace(day=1)

    async def cut_off(self) -> int:
        return await cut_off_all(self.operator.market.database)

    async def use(self, times: int = 10) -> int:
        """What it cost."""
        market = self.operator.market
        grant = await market.ask(self.customer, 10_000_000)
        events = [market.event(self.customer, grant.grant_id) for _ in range(times)]
        assert (await market.ingest(*events)).posted == times
        return sum(event.amount_nano for event in events)

    async def moved(self) -> dict[str, int]:
        rows = await self.operator.market.scalar(
            "SELECT jsonb_object_agg(k.kind, e.amount_nano) FROM cut_off_entry e "
            "JOIN contract_term k ON k.id = e.term_id"
        )
        return dict(rows or {})


@pytest.fixture
async def terms(operator: Operator, customer: Customer) -> Terms:
    today: date = await operator.market.scalar("SELECT (now() AT TIME ZONE 'UTC')::date")
    return Terms(operator, customer, today.replace(day=1))


async def test_terms_are_posted_once_at_the_months_end(terms: Terms, market: Market, customer: Customer) -> None:
    before = (await market.balance(customer)).available_nano
    await terms.agree(TermKind.VOLUME_DISCOUNT, tiers=[Tier(0, 0), Tier(10_000, 1000)])
    await terms.agree(TermKind.MINIMUM, amount_nano=1_000_000)
    await terms.agree(TermKind.COMMITMENT, amount_nano=5_000_000, last_month=terms.this_month)
    used = await terms.use()
    assert await terms.cut_off() == 0, "the month is not over"
    await terms.month_passes()
    results = await asyncio.gather(*(terms.cut_off() for _ in range(3)))
    assert sum(results) == 1
    discount = (used - 10_000 + 5) // 10
    assert await terms.moved() == {
        "volume_discount": discount,
        "minimum": -(1_000_000 - used + discount),
        "commitment": -4_000_000,
    }
    assert before - (await market.balance(customer)).available_nano == 5_000_000
    assert await terms.cut_off() == 0
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None


async def test_a_month_killed_in_the_middle_is_done_again_as_a_whole(terms: Terms, market: Market) -> None:
    await terms.agree(TermKind.MINIMUM, amount_nano=1_000_000)
    month = await terms.month_passes()
    with pytest.raises(RuntimeError):
        async with market.database.operator() as session:
            assert await cut_off_month(session, terms.customer.tenant_id, month)
            raise RuntimeError("killed")
    assert await terms.moved() == {}
    assert await terms.cut_off() == 1
    assert await terms.moved() == {"minimum": -1_000_000}


async def test_nothing_is_posted_into_a_closed_month(terms: Terms, market: Market, customer: Customer) -> None:
    await terms.agree(TermKind.MINIMUM, amount_nano=1)
    month = await terms.month_passes()
    await terms.cut_off()
    event = market.event(customer, (await market.ask(customer, 1_000_000)).grant_id)
    await market.ingest(event)
    statement = (
        "INSERT INTO usage_event SELECT uuidv7(), tenant_id, project_id, key_id, grant_id, region, gateway, "
        "listing_id, price_version_id, outcome, 0, 0, 0, 0, 0, 0, 0, started_at, finished_at, NULL, NULL, :at "
        "FROM usage_event"
    )
    with pytest.raises(DBAPIError, match="this month is closed"):
        async with market.database.ingest() as session:
            await session.execute(text(statement), {"at": _moment(month)})


async def test_a_commitment_counts_all_of_its_months(terms: Terms, market: Market) -> None:
    following = (terms.this_month + timedelta(days=31)).replace(day=1)
    await terms.agree(TermKind.COMMITMENT, amount_nano=5_000_000, last_month=following)
    used = await terms.use()
    await terms.month_passes()
    assert await terms.cut_off() == 1
    assert await terms.moved() == {"commitment": 0}
    used += await terms.use()
    await terms.month_passes()
    assert await terms.cut_off() == 1
    assert await market.scalar("SELECT sum(amount_nano) FROM cut_off_entry") == -(5_000_000 - used)


async def test_a_term_that_has_ended_asks_for_nothing_more(terms: Terms, market: Market, customer: Customer) -> None:
    term = await terms.agree(TermKind.MINIMUM, amount_nano=7)
    async with market.database.operator() as session:
        ended = await end_term(session, customer.scope, ContractTermId(term.id))
        assert ended.last_month == terms.this_month
        assert (await end_term(session, customer.scope, ContractTermId(term.id))).last_month == terms.this_month
    await terms.month_passes()
    await terms.cut_off()
    await terms.month_passes()
    await terms.cut_off()
    assert await market.scalar("SELECT sum(amount_nano) FROM cut_off_entry") == -7
    async with market.database.operator() as session:
        with pytest.raises(Conflict):
            await end_term(session, customer.scope, ContractTermId(term.id))


@pytest.mark.parametrize(
    "values",
    [
        {"kind": TermKind.MINIMUM},
        {"kind": TermKind.VOLUME_DISCOUNT},
        {"kind": TermKind.VOLUME_DISCOUNT, "tiers": [Tier(5, 1), Tier(5, 2)]},
        {"kind": TermKind.COMMITMENT, "amount_nano": 1},
        {"kind": TermKind.MINIMUM, "amount_nano": 1, "first_month": date(2020, 1, 1)},
        {"kind": TermKind.MINIMUM, "amount_nano": 1, "last_month": date(2020, 1, 1)},
        {"kind": TermKind.MINIMUM, "amount_nano": 1, "tiers": [Tier(0, 1)]},
    ],
)
async def test_impossible_terms_are_refused(terms: Terms, values: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        await terms.agree(**values)


def test_months_are_counted_by_their_first_days() -> None:
    assert list(months_from(date(2026, 11, 1), date(2027, 2, 1))) == [
        date(2026, 11, 1),
        date(2026, 12, 1),
        date(2027, 1, 1),
    ]


def _moment(month: date) -> Any:
    return datetime(month.year, month.month, 5, tzinfo=UTC)
