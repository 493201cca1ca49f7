"""Every nano of an event is paid exactly once, and no source is overdrawn."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from chappe_billing.usage.allocation import allocate
from chappe_kernel.rating import NO_COUNTS, Outcome
from chappe_kernel.wire.control import UsageEvent
from tests.billing.conftest import NOW

TENANTS = [UUID(int=number) for number in (1, 2)]
GRANTS = {UUID(int=10 + number): TENANTS[number % 2] for number in range(4)}
AMOUNTS = st.integers(0, 100)


def event(grant_id: UUID, amount_nano: int) -> UsageEvent:
    return UsageEvent(
        request_id=UUID(int=99),
        tenant_id=GRANTS[grant_id],
        project_id=UUID(int=3),
        key_id=UUID(int=4),
        grant_id=grant_id,
        listing="l",
        price_version=UUID(int=5),
        outcome=Outcome.COMPLETED,
        counts=NO_COUNTS,
        amount_nano=amount_nano,
        hold_nano=100,
        started_at=NOW,
        finished_at=NOW,
    )


EVENTS = st.lists(st.builds(event, st.sampled_from(list(GRANTS)), AMOUNTS), max_size=12)
REST = st.dictionaries(st.sampled_from(list(GRANTS)), AMOUNTS)
FREE = st.fixed_dictionaries(dict.fromkeys(TENANTS, AMOUNTS))


@given(EVENTS, REST, FREE)
def test_an_allocation_is_complete_and_covered(
    events: list[UsageEvent], rest: dict[UUID, int], free: dict[UUID, int]
) -> None:
    allocations = allocate(events, rest, free)
    for one, allocation in zip(events, allocations, strict=True):
        assert allocation.charged_nano + allocation.written_off_nano == one.amount_nano
        assert min(allocation.granted_nano, allocation.taken_nano, allocation.written_off_nano) >= 0
    for grant_id in GRANTS:
        taken = sum(a.granted_nano for e, a in zip(events, allocations, strict=True) if e.grant_id == grant_id)
        assert taken <= rest.get(grant_id, 0)
    for tenant_id in TENANTS:
        mine = [(e, a) for e, a in zip(events, allocations, strict=True) if e.tenant_id == tenant_id]
        assert sum(a.taken_nano for _, a in mine) <= free[tenant_id]
        # Nothing is written off while the tenant's free funds could have paid it.
        written_off = sum(a.written_off_nano for _, a in mine)
        assert written_off == 0 or sum(a.taken_nano for _, a in mine) == free[tenant_id]


@given(EVENTS, REST, FREE)
def test_free_funds_are_touched_only_when_the_grant_is_used_up(
    events: list[UsageEvent], rest: dict[UUID, int], free: dict[UUID, int]
) -> None:
    left = dict(rest)
    for one, allocation in zip(events, allocate(events, rest, free), strict=True):
        left[one.grant_id] = left.get(one.grant_id, 0) - allocation.granted_nano
        if allocation.taken_nano or allocation.written_off_nano:
            assert left[one.grant_id] == 0
