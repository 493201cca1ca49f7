"""How a region fares follows from what its gateways and its reconciler last said, and from nothing else."""

import pytest

from chappe_control.console.regions.health import (
    DeploymentSeen,
    GatewaySeen,
    Health,
    Kind,
    Newest,
    Problem,
    RegionState,
    assess,
)
from chappe_control.console.regions.texts import STATES, explain

NEWEST = Newest("v2", age_s=60)


def gateway(name: str = "gw-1", age_s: float = 0.5, version: str = "v2", healthy: str = "chat embed") -> GatewaySeen:
    return GatewaySeen(name, age_s, version, frozenset(healthy.split()))


def deployment(name: str = "chat", **changes: object) -> DeploymentSeen:
    values = {"sold": True, "wanted": 1, "running": 1, "state": "running", "age_s": 3.0} | changes
    return DeploymentSeen(name, **values)  # type: ignore[arg-type]  # a test may change any field


BOTH = [deployment(), deployment("embed")]


def kinds(health: Health) -> list[Kind]:
    return [problem.kind for problem in health.problems]


def test_a_region_where_everything_answers_is_healthy() -> None:
    assert assess([gateway(), gateway("gw-2")], BOTH, NEWEST) == Health(RegionState.HEALTHY, ())


def test_never_reported_and_gone_silent_are_different() -> None:
    never = assess([], [deployment(state=None, age_s=None)], NEWEST)
    assert (never.state, kinds(never)) == (RegionState.NEVER, [Kind.NEVER_REPORTED])
    assert never.problems[0].quiet and not never.problems[0].critical
    silent = assess([gateway(age_s=5), gateway("gw-2", age_s=4000)], BOTH, NEWEST)
    assert (silent.state, kinds(silent)) == (RegionState.SILENT, [Kind.ALL_SILENT])
    assert silent.problems[0].critical and silent.problems[0].age_s == 5


def test_a_reconciler_alone_makes_no_region() -> None:
    assert assess([], BOTH, NEWEST).state is RegionState.NEVER


def test_a_region_where_nothing_answers_is_down_and_one_where_nothing_is_deployed_is_not() -> None:
    down = assess([gateway(healthy="")], BOTH, NEWEST)
    assert (down.state, kinds(down)) == (RegionState.DOWN, [Kind.NOTHING_ANSWERS])
    idle = assess([gateway(healthy="")], [], NEWEST)
    assert (idle.state, kinds(idle)) == (RegionState.IDLE, [Kind.NOTHING_DEPLOYED])


@pytest.mark.parametrize(
    ("gateways", "deployments", "expected"),
    [
        ([gateway(healthy="chat")], BOTH, (Kind.NOT_ANSWERING, "embed", 0, 1)),
        ([gateway(), gateway("gw-2", healthy="chat")], BOTH, (Kind.ANSWERS_IN_PART, "embed", 1, 2)),
        ([gateway(), gateway("gw-2", age_s=9)], BOTH, (Kind.GATEWAY_SILENT, "gw-2", 0, 0)),
        ([gateway(version="v1")], BOTH, (Kind.GATEWAY_BEHIND, "gw-1", 0, 0)),
        ([gateway()], [deployment(wanted=3), BOTH[1]], (Kind.REPLICAS_MISSING, "chat", 1, 3)),
        ([gateway()], [deployment(age_s=None, state=None)], (Kind.RECONCILER_NEVER, "", 0, 0)),
        ([gateway()], [deployment(age_s=36.0)], (Kind.RECONCILER_SILENT, "", 0, 0)),
        ([gateway()], [deployment(state="unreachable", running=0)], (Kind.RAY_UNREACHABLE, "", 0, 0)),
    ],
)
def test_one_fault_is_one_problem(
    gateways: list[GatewaySeen], deployments: list[DeploymentSeen], expected: tuple[Kind, str, int, int]
) -> None:
    health = assess(gateways, deployments, NEWEST)
    assert health.state is RegionState.DEGRADED
    (problem,) = health.problems
    assert (problem.kind, problem.subject, problem.have, problem.want) == expected


def test_what_is_no_fault_is_none() -> None:
    just_published = Newest("v3", age_s=9.9)
    cases = [
        assess([gateway()], BOTH, just_published),
        assess([gateway(), gateway("retired", age_s=601, version="v1", healthy="")], BOTH, NEWEST),
        assess([gateway(healthy="chat")], [BOTH[0], deployment("embed", sold=False)], NEWEST),
        assess([gateway(healthy="chat")], [BOTH[0], deployment("embed", wanted=0, running=0)], NEWEST),
        assess([gateway()], [deployment(running=2, wanted=1)], NEWEST),
    ]
    assert [case.state for case in cases] == [RegionState.HEALTHY] * len(cases)


def test_what_is_sold_but_not_deployed_is_told() -> None:
    health = assess([gateway()], BOTH, NEWEST, sold_but_not_deployed=["vision"])
    assert [(problem.kind, problem.subject) for problem in health.problems] == [(Kind.NOT_DEPLOYED, "vision")]


def test_the_worst_is_read_first() -> None:
    health = assess([gateway(version="v1")], [deployment(state="unreachable", running=0)], NEWEST)
    assert kinds(health) == [Kind.RAY_UNREACHABLE, Kind.GATEWAY_BEHIND]


def test_every_state_and_problem_has_words() -> None:
    assert set(STATES) == set(RegionState)
    for kind in Kind:
        text = explain(Problem(kind))
        assert text.title and text.meaning and text.action
        assert (text.title + "%(x)s") % {"subject": "s", "have": 1, "want": 2, "x": ""}
