"""What a corrected price takes back from publishers is what was posted for it, by the terms of then, and never more."""

from fractions import Fraction
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from chappe_billing.ledger.postings import BASIS_POINTS, Share
from chappe_billing.price_corrections.dues import Wrong
from chappe_billing.price_corrections.service import correct_all
from chappe_billing.price_corrections.taking_back import Shared, Taken, Term, shares_to_take
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Price
from tests.billing.conftest import PRICE, Customer, Market
from tests.ledger.conftest import account, assert_intact
from tests.ledger.test_shares import correct_down, share
from tests.prices.conftest import Operator
from tests.prices.test_reverting import BAD, BAD_NANO, RIGHT_NANO, use

WRONG = Wrong(new_id(), new_id(), "fr-par", PRICE, new_id())
ODD = 3_333
"""Basis points that leave a part of a nano nearly every time."""


async def earned(market: Market) -> int:
    return await account(market, "publisher_payable")


async def test_it_is_taken_by_the_terms_of_when_it_was_posted(
    operator: Operator, market: Market, customer: Customer
) -> None:
    await share(market, ODD)
    (bad,) = await operator.publish(operator.line(BAD))
    await use(market, customer, bad, BAD, times=3)
    posted = 3 * BAD_NANO * ODD // BASIS_POINTS
    await share(market, 9_999)
    await operator.revert(bad)
    assert await correct_all(market.database) == 1
    given_back = 3 * (BAD_NANO - RIGHT_NANO)
    assert await earned(market) == posted - posted * given_back // (3 * BAD_NANO)
    await assert_intact(market)


async def test_a_listing_that_was_not_shared_then_takes_nothing_from_anybody(
    operator: Operator, market: Market, customer: Customer
) -> None:
    (bad,) = await operator.publish(operator.line(BAD))
    await use(market, customer, bad, BAD)
    await share(market, 9_999)
    await operator.revert(bad)
    assert await correct_all(market.database) == 1
    assert await earned(market) == 0
    await assert_intact(market)


async def test_all_of_it_given_back_is_all_that_was_posted_to_the_nano(
    operator: Operator, market: Market, customer: Customer
) -> None:
    """Batch by batch shares are cut off: of their sum the terms would take more than there is."""
    await share(market, ODD)
    await operator.publish(operator.line(Price(0, 0, 0)))
    (bad,) = await operator.publish(operator.line(BAD))
    for _ in range(4):
        await use(market, customer, bad, BAD)
    assert await earned(market) == 4 * (BAD_NANO * ODD // BASIS_POINTS) < 4 * BAD_NANO * ODD // BASIS_POINTS
    await operator.revert(bad)
    assert await correct_all(market.database) == 1
    assert await earned(market) == 0
    await use(market, customer, bad, BAD)
    assert await correct_all(market.database) == 1, "a spool that was late"
    assert await earned(market) == 0
    await assert_intact(market)


async def test_other_versions_of_the_same_day_keep_their_shares(
    operator: Operator, market: Market, customer: Customer
) -> None:
    await share(market, 1_000)
    await use(market, customer, market.prices["fr-par"], PRICE, times=2)
    (bad,) = await operator.publish(operator.line(BAD))
    await share(market, 9_000)
    await use(market, customer, bad, BAD)
    kept, posted = 2 * RIGHT_NANO // 10, BAD_NANO * 9 // 10
    assert await earned(market) == kept + posted
    await operator.revert(bad)
    await correct_all(market.database)
    assert await earned(market) == kept + posted - posted * (BAD_NANO - RIGHT_NANO) // BAD_NANO
    await assert_intact(market)


async def test_what_a_discrepancy_took_is_not_taken_again(
    operator: Operator, market: Market, customer: Customer
) -> None:
    await share(market, ODD)
    grant = await market.ask(customer, 1_000_000)
    event = market.event(customer, grant.grant_id)
    await market.ingest(event)
    await correct_down(market, event)
    before = await earned(market)
    await operator.publish(operator.line(Price(0, 0, 0)))
    (bad,) = await operator.publish(operator.line(BAD))
    await use(market, customer, bad, BAD)
    await operator.revert(bad)
    await correct_all(market.database)
    assert await earned(market) == before
    await assert_intact(market)


terms = st.sampled_from([Term(UUID(int=n), bp) for n in (1, 2) for bp in (1, ODD, 10_000)])


@st.composite
def posted_shares(draw: st.DrawFn) -> list[Shared]:
    found = []
    values = st.tuples(terms, st.integers(1, 10**15), st.integers(1, 10**6))
    for term, base, whole in draw(st.lists(values, max_size=6)):
        share_nano = base * term.share_bp // BASIS_POINTS
        found.append(Shared(term, base, share_nano, draw(st.integers(1, whole)), whole))
    return found


def whole_parts(posted: list[Shared]) -> dict[Term, Fraction]:
    found: dict[Term, Fraction] = {}
    for one in posted:
        found[one.term] = found.get(one.term, Fraction(0)) + one.share_nano * Fraction(one.part, one.whole)
    return found


def by_term(shares: tuple[Share, ...]) -> dict[Term, Taken]:
    return {Term(one.publisher_id, one.share_bp): Taken(-one.base_nano, -one.share_nano) for one in shares}


@given(posted_shares(), st.lists(st.fractions(0, 1), max_size=4))
def test_pieces_take_what_one_correction_would_and_no_more_than_was_posted(
    posted: list[Shared], parts: list[Fraction]
) -> None:
    everything = {term: int(part) for term, part in whole_parts(posted).items()}
    taken: dict[Term, Taken] = {}
    for given_part in sorted(parts):
        left = {term: nano - taken.get(term, Taken(0, 0)).share_nano for term, nano in everything.items()}
        shares = shares_to_take(WRONG, posted, given=given_part, taken=taken, left_nano=left)
        for term, one in by_term(shares).items():
            before = taken.get(term, Taken(0, 0))
            taken[term] = Taken(before.base_nano + one.base_nano, before.share_nano + one.share_nano)
    for term, nano in everything.items():
        exact = whole_parts(posted)[term] * max(parts, default=Fraction(0))
        found = taken.get(term, Taken(0, 0)).share_nano
        assert found <= nano
        # A piece whose base is less than a nano takes nothing: the next one does, if there is one.
        assert exact - 2 < found <= exact
