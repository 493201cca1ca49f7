"""A grant is never overdrawn, each hold ends once, and exactly what was neither held nor spent goes back."""

from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chappe_gateway.money.grants import Hold, HoldEnded, LeasedGrant, TenantBook
from chappe_kernel.ids import new_id

ADMIT_S, SETTLE_S, RELEASE_S = 30.0, 180.0, 200.0


def grant(amount_nano: int, asked_at: float = 0.0) -> LeasedGrant:
    return LeasedGrant(new_id(), amount_nano, asked_at, asked_at + ADMIT_S, asked_at + SETTLE_S, asked_at + RELEASE_S)


class Grants(RuleBasedStateMachine):
    """Any order of leases, holds, settlements and time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.book = TenantBook()
        self.all: list[LeasedGrant] = []
        self.open: list[Hold] = []
        self.charged: dict[UUID, int] = {}
        self.returned: dict[UUID, int] = {}

    @rule(amount=st.integers(0, 1000))
    def lease(self, amount: int) -> None:
        fresh = grant(amount, self.now)
        self.book.retire_oldest()
        self.book.add(fresh)
        self.all.append(fresh)

    @rule(amount=st.integers(0, 400))
    def take_hold(self, amount: int) -> None:
        hold = self.book.hold(self.now, amount)
        if hold is None:
            assert all(g.free_nano < amount for g in self.book.admitting)
        else:
            assert self.now < hold.grant.admit_until
            assert not hold.grant.retired
            self.open.append(hold)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        hold = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        charged = data.draw(st.integers(0, hold.amount_nano))
        self.book.settle(hold, charged)
        self.charged[hold.grant.grant_id] = self.charged.get(hold.grant.grant_id, 0) + charged
        with pytest.raises(HoldEnded):
            self.book.settle(hold, charged)

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.book.retire_due(self.now)

    @rule()
    def retire(self) -> None:
        self.book.retire_all()

    @rule()
    def give_back_idle(self) -> None:
        """Others need it."""
        self.book.give_back_idle()
        assert self.book.free_nano() == 0

    @rule()
    def send_returns(self) -> None:
        for grant_id, (amount, _) in self.book.due_returns.items():
            assert amount >= self.returned.get(grant_id, 0), "returns are cumulative"
            self.returned[grant_id] = amount
        self.book.due_returns.clear()

    @invariant()
    def never_overdrawn(self) -> None:
        for g in self.all:
            held = sum(hold.amount_nano for hold in self.open if hold.grant is g)
            spent = self.charged.get(g.grant_id, 0)
            due = self.book.due_returns.get(g.grant_id, (0, 0.0))[0]
            assert (g.held_nano, g.spent_nano) == (held, spent)
            assert g.returned_nano == max(due, self.returned.get(g.grant_id, 0)), "what goes back is told once it is"
            assert held + spent + max(due, self.returned.get(g.grant_id, 0)) <= g.amount_nano
            assert g.free_nano >= 0

    @invariant()
    def at_most_two_admit(self) -> None:
        assert len(self.book.admitting) <= 2
        assert self.book.open_holds == len(self.open)
        assert self.book.held_nano == sum(hold.amount_nano for hold in self.open)
        assert self.book.spent_nano == sum(self.charged.values())

    def teardown(self) -> None:
        for hold in self.open:
            self.book.settle(hold, 0)
        self.book.retire_all()
        for grant_id, (amount, _) in self.book.due_returns.items():
            self.returned[grant_id] = amount
        for g in self.all:
            assert self.returned.get(g.grant_id, 0) == g.amount_nano - self.charged.get(g.grant_id, 0)


TestGrants = Grants.TestCase


def test_a_charge_outside_its_hold_is_a_defect() -> None:
    book = TenantBook()
    book.add(grant(100))
    hold = book.hold(0, 50)
    assert hold is not None
    for amount in (-1, 51):
        with pytest.raises(ValueError, match="outside"):
            book.settle(hold, amount)


def test_the_next_grant_is_leased_at_half_or_after_two_thirds_of_the_time() -> None:
    book = TenantBook()
    assert book.wants_next(0)
    book.add(grant(100))
    assert not book.wants_next(19.9)
    assert book.wants_next(20)
    assert book.hold(0, 50) is not None
    assert book.wants_next(0)
    book.add(grant(100))
    assert not book.wants_next(25)


def test_the_older_grant_is_used_first_and_what_fits_only_the_next_comes_from_it() -> None:
    book = TenantBook()
    old, new = grant(100), grant(100, 5)
    book.add(old)
    book.add(new)
    first, second = book.hold(6, 80), book.hold(6, 80)
    assert first is not None
    assert second is not None
    assert (first.grant, second.grant) == (old, new)


def test_a_recalled_grant_goes_on_with_what_its_holds_leave_over() -> None:
    book = TenantBook()
    only = grant(100)
    book.add(only)
    hold = book.hold(0, 40)
    assert hold is not None
    book.give_back_idle()
    assert book.due_returns == {only.grant_id: (60, RELEASE_S)}
    assert book.hold(0, 1) is None
    book.settle(hold, 15)
    assert book.hold(0, 25) is not None
    assert book.hold(0, 1) is None


def test_however_long_a_grant_admits_it_is_renewed_in_time() -> None:
    book = TenantBook()
    day = LeasedGrant(new_id(), 100, 0.0, 86_400.0, 86_550.0, 86_570.0)
    book.add(day)
    assert not book.wants_next(299)
    assert book.wants_next(300)


def test_an_expired_grant_admits_nothing_and_gives_back() -> None:
    book = TenantBook()
    old = grant(100)
    book.add(old)
    hold = book.hold(0, 40)
    assert hold is not None
    assert book.hold(ADMIT_S, 1) is None
    assert book.due_returns == {old.grant_id: (60, RELEASE_S)}
    book.settle(hold, 15)
    assert book.due_returns == {old.grant_id: (85, RELEASE_S)}
