"""The machine finds each of these bugs: `pytest tests/money/mutants.py`. It takes minutes, so nothing else runs it.

An invariant that cannot fail proves nothing; and a bug that breaks the code outright proves nothing of an invariant,
so whatever finds it is one, or a constraint of the database.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy.exc import IntegrityError

from chappe_billing.budgets import queries as budget_queries
from chappe_billing.grants import queries as grant_queries
from chappe_billing.grants import service as grants
from chappe_billing.grants.terms import grant_times
from chappe_billing.ledger import service as ledger
from chappe_billing.usage import queries as usage_queries
from chappe_billing.usage import service as usage
from chappe_billing.usage.allocation import Allocation
from chappe_gateway.money.grants import LeasedGrant, TenantBook
from tests.money.machine import Money
from tests.money.playing import played

__all__ = ["played"]

Patch = pytest.MonkeyPatch


def usage_pays_from_free_money_though_a_grant_was_leased_for_it(patch: Patch) -> None:
    def allocate(events: Iterable[Any], _rest: object, free: dict[Any, int]) -> list[Allocation]:
        return [Allocation(0, event.amount_nano, 0) for event in events]

    patch.setattr(usage, "allocate", allocate)


def an_expired_grant_stays_pending(patch: Patch) -> None:
    async def release(*_: object) -> dict[Any, int]:
        return {}

    patch.setattr(budget_queries, "release_expired_grants", release)


def returns_are_added_up(patch: Patch) -> None:
    real = grants.return_grant

    async def twice(session: Any, *, region: str, grant_id: Any, returned_nano: int) -> None:
        grant = await grant_queries.find_grant(session, grant_id)
        before = 0 if grant is None else grant.returned_nano
        await real(session, region=region, grant_id=grant_id, returned_nano=before + returned_nano)

    patch.setattr("tests.money.play.return_grant", twice)


def a_gateway_lends_what_is_held(patch: Patch) -> None:
    patch.setattr(LeasedGrant, "free_nano", property(lambda self: self.amount_nano - self.spent_nano))


def a_gateway_returns_what_was_spent(patch: Patch) -> None:
    def give_back(self: TenantBook, grant: LeasedGrant) -> None:
        self.due_returns[grant.grant_id] = (grant.amount_nano - grant.held_nano, grant.release_at)

    patch.setattr(TenantBook, "_give_back", give_back)


def lent_money_is_refused_for_good(patch: Patch) -> None:
    def free_nano(self: budget_queries.LockedBudget) -> int:
        return self.funds_nano + self.credit_limit_nano - self.posted_nano - self.pending_nano

    patch.setattr(budget_queries.LockedBudget, "spendable_nano", property(free_nano))
    patch.setattr(budget_queries.LockedBudget, "free_nano", property(lambda self: max(0, free_nano(self))))


def a_monthly_budget_forgets_what_is_lent(patch: Patch) -> None:
    patch.setattr("chappe_billing.spending.service.BudgetState.free_nano", property(lambda self: self.spendable_nano))


def a_message_is_forgotten(patch: Patch) -> None:
    async def enqueue(*_: object) -> None:
        return None

    patch.setattr(ledger, "enqueue_as", enqueue)


def a_repeat_is_posted_again(patch: Patch) -> None:
    async def find(*_: object) -> dict[Any, Any]:
        return {}

    patch.setattr(usage_queries, "find_posted", find)


def a_grant_admits_across_the_months_end(patch: Patch) -> None:
    real = grant_times

    def times(now: Any, terms: Any) -> Any:
        return real(now.replace(day=2), terms)

    patch.setattr(grants, "grant_times", times)


BUGS: tuple[Callable[[Patch], None], ...] = (
    usage_pays_from_free_money_though_a_grant_was_leased_for_it,
    an_expired_grant_stays_pending,
    returns_are_added_up,
    a_gateway_lends_what_is_held,
    a_gateway_returns_what_was_spent,
    lent_money_is_refused_for_good,
    a_monthly_budget_forgets_what_is_lent,
    a_message_is_forgotten,
    a_repeat_is_posted_again,
    a_grant_admits_across_the_months_end,
)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_bug_is_found(bug: Callable[[Patch], None], played: type[Money], monkeypatch: Patch) -> None:
    bug(monkeypatch)
    with pytest.raises((AssertionError, IntegrityError)):
        run_state_machine_as_test(
            played,
            settings=settings(
                max_examples=20,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
            ),
        )
