"""Levels only narrow, a raise lifts what the operator set and nothing else, and everything says where it comes from."""

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.ids import new_id
from chappe_tenants.quotas.effective import (
    Budget,
    Holder,
    Level,
    Limit,
    Measure,
    Rule,
    budgets,
    effective,
    holds_until,
    limits,
)

RPM = Measure.REQUESTS_PER_MINUTE
END = datetime(2026, 12, 1, tzinfo=UTC)


def rule(level: Level, value: int | None = None, model: str | None = None, **fields: object) -> Rule:
    return Rule(new_id(), level, model=model, requests_per_minute=value, **fields)  # type: ignore[arg-type]  # any field


# By level: what it says of requests per minute; then the value that holds for `m`, and whose it is.
CASES: list[tuple[list[tuple[Level, int | None, str | None]], tuple[int, Level] | None]] = [
    ([], None),
    ([(Level.PLAN, 600, None)], (600, Level.PLAN)),
    ([(Level.PLAN, 600, None), (Level.CONTRACT, 300, None)], (300, Level.CONTRACT)),
    ([(Level.PLAN, 600, None), (Level.CONTRACT, 900, None)], (600, Level.PLAN)),
    ([(Level.PLAN, 600, None), (Level.CONTRACT, 600, None)], (600, Level.PLAN)),
    ([(Level.PLAN, 600, None), (Level.PROJECT, 60, None), (Level.KEY, 6, None)], (6, Level.KEY)),
    ([(Level.PLAN, 600, None), (Level.PROJECT, 60, None), (Level.KEY, 60, None)], (60, Level.PROJECT)),
    ([(Level.PLAN, 600, None), (Level.RAISE, 6000, None)], (6000, Level.RAISE)),
    ([(Level.PLAN, 600, None), (Level.CONTRACT, 300, None), (Level.RAISE, 450, None)], (450, Level.RAISE)),
    ([(Level.PLAN, 600, None), (Level.RAISE, 100, None)], (600, Level.PLAN)),
    ([(Level.RAISE, 100, None)], None),
    ([(Level.PLAN, 600, None), (Level.RAISE, 6000, None), (Level.TENANT, 500, None)], (500, Level.TENANT)),
    ([(Level.PLAN, 600, None), (Level.RAISE, 6000, None), (Level.KEY, 5, None)], (5, Level.KEY)),
    ([(Level.PLAN, 600, None), (Level.PLAN, 20, "m")], (20, Level.PLAN)),
    ([(Level.PLAN, 600, None), (Level.PLAN, 20, "other")], (600, Level.PLAN)),
    ([(Level.PLAN, 600, None), (Level.PLAN, 20, "m"), (Level.RAISE, 900, None)], (20, Level.PLAN)),
    ([(Level.PLAN, 600, None), (Level.PLAN, 20, "m"), (Level.RAISE, 900, "m")], (600, Level.PLAN)),
    ([(Level.PLAN, None, None), (Level.KEY, 5, None)], (5, Level.KEY)),
]


@pytest.mark.parametrize(("set_values", "expected"), CASES)
def test_the_tightest_level_holds_and_is_named(
    set_values: list[tuple[Level, int | None, str | None]], expected: tuple[int, Level] | None
) -> None:
    found = effective([rule(*one) for one in set_values], RPM, "m")
    assert (None if found is None else (found.value, found.origin.level)) == expected


def test_each_holder_counts_for_itself() -> None:
    """A project's limit is no substitute for its tenant's: both count, over different requests."""
    rules = [rule(Level.PLAN, 600), rule(Level.TENANT, 500), rule(Level.PROJECT, 50), rule(Level.KEY, 5, "m")]
    found = limits(rules, RPM)
    assert [(limit.holder, limit.model, limit.value) for limit in found] == [
        (Holder.TENANT, None, 500),
        (Holder.PROJECT, None, 50),
        (Holder.KEY, "m", 5),
    ]


def test_budgets_hold_side_by_side_and_a_raise_lifts_the_operators() -> None:
    plan, own = rule(Level.PLAN, monthly_budget_nano=100), rule(Level.TENANT, monthly_budget_nano=50, hard_stop=False)
    raised = rule(Level.RAISE, monthly_budget_nano=400, ends_at=END)
    assert budgets([plan, own, raised]) == [Budget(plan, 400, raised), Budget(own, 50, own)]
    assert holds_until([plan, own, raised]) == END


RULES = st.lists(
    st.builds(
        rule,
        st.sampled_from(Level),
        st.none() | st.integers(1, 1000),
        st.sampled_from([None, "m", "n"]),
    ),
    max_size=12,
)


def value(found: Limit | None) -> float:
    return float("inf") if found is None else found.value


@given(
    RULES, st.sampled_from([Level.PLAN, Level.CONTRACT, Level.TENANT, Level.PROJECT, Level.KEY]), st.integers(1, 1000)
)
def test_a_further_rule_never_widens(rules: list[Rule], level: Level, added: int) -> None:
    unraised = [one for one in rules if one.level is not Level.RAISE]
    before = effective(unraised, RPM, "m")
    assert value(effective([*unraised, rule(level, added)], RPM, "m")) <= value(before)


@given(RULES, st.integers(1, 1000))
def test_a_raise_never_narrows(rules: list[Rule], added: int) -> None:
    before = effective(rules, RPM, "m")
    assert value(effective([*rules, rule(Level.RAISE, added)], RPM, "m")) >= value(before)


@given(RULES)
def test_a_raise_never_lifts_what_the_tenant_set(rules: list[Rule]) -> None:
    own = [one for one in rules if one.level in (Level.TENANT, Level.PROJECT, Level.KEY)]
    assert value(effective(rules, RPM, "m")) <= value(effective(own, RPM, "m"))


@given(RULES, st.randoms())
def test_the_order_of_rules_means_nothing(rules: list[Rule], random: Random) -> None:
    shuffled = random.sample(rules, len(rules))
    assert value(effective(shuffled, RPM, "m")) == value(effective(rules, RPM, "m"))
