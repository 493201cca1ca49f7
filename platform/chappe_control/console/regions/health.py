"""How a region fares, from what its gateways and its reconciler last said. Pure: times come in as ages in seconds."""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from chappe_catalogue.regions.queries import ALIVE_S

RETIRED_S = 600
"""A gateway that was silent for so long, while others serve, was taken away and is no alarm any more."""
RECONCILER_ALIVE_S = 35
"""It reports every ten seconds: three reports are missing."""
BEHIND_S = 10
"""Gateways ask for the snapshot twice a second. Until a new one is so old, they are only about to take it."""
UNREACHABLE = "unreachable"
"""What the reconciler says of a deployment when Ray itself does not answer."""


class RegionState(StrEnum):
    """The worst comes first, as the page sorts them."""

    DOWN = "down"
    SILENT = "silent"
    DEGRADED = "degraded"
    NEVER = "never"
    IDLE = "idle"
    HEALTHY = "healthy"


class Kind(StrEnum):
    """What can be wrong."""

    NEVER_REPORTED = "never_reported"
    ALL_SILENT = "all_silent"
    GATEWAY_SILENT = "gateway_silent"
    GATEWAY_BEHIND = "gateway_behind"
    NOTHING_DEPLOYED = "nothing_deployed"
    NOTHING_ANSWERS = "nothing_answers"
    NOT_ANSWERING = "not_answering"
    ANSWERS_IN_PART = "answers_in_part"
    NOT_DEPLOYED = "not_deployed"
    REPLICAS_MISSING = "replicas_missing"
    RECONCILER_NEVER = "reconciler_never"
    RECONCILER_SILENT = "reconciler_silent"
    RAY_UNREACHABLE = "ray_unreachable"


_CRITICAL = frozenset({Kind.ALL_SILENT, Kind.NOTHING_ANSWERS, Kind.RAY_UNREACHABLE})
_QUIET = frozenset({Kind.NEVER_REPORTED, Kind.NOTHING_DEPLOYED})


class GatewaySeen(Struct, frozen=True):
    """A gateway's last sign of life."""

    name: str
    age_s: float
    snapshot_version: str
    healthy: frozenset[str]

    @property
    def alive(self) -> bool:
        return self.age_s < ALIVE_S


class DeploymentSeen(Struct, frozen=True):
    """What should run, and what the reconciler last said. `sold`: gateways look after it, since it has a price."""

    name: str
    sold: bool
    wanted: int
    running: int = 0
    state: str | None = None
    age_s: float | None = None


class Newest(Struct, frozen=True):
    """The snapshot that gateways should have, and for how long there has been none newer."""

    version: str
    age_s: float


class Problem(Struct, frozen=True):
    """One thing that is wrong. `subject` names the gateway or deployment, the age says since when."""

    kind: Kind
    subject: str = ""
    age_s: float | None = None
    have: int = 0
    want: int = 0

    @property
    def critical(self) -> bool:
        return self.kind in _CRITICAL

    @property
    def quiet(self) -> bool:
        """Nothing broke: something was not begun yet."""
        return self.kind in _QUIET


class Health(Struct, frozen=True):
    """A region's state, and every problem in the order in which to read them."""

    state: RegionState
    problems: tuple[Problem, ...]


def assess(
    gateways: Sequence[GatewaySeen],
    deployments: Sequence[DeploymentSeen],
    newest: Newest,
    *,
    sold_but_not_deployed: Sequence[str] = (),
) -> Health:
    """What is wrong in a region, the worst first."""
    reports = [deployment.age_s for deployment in deployments if deployment.age_s is not None]
    if not gateways and not reports:
        return Health(RegionState.NEVER, (Problem(Kind.NEVER_REPORTED),))
    alive = [gateway for gateway in gateways if gateway.alive]
    if not alive:
        age_s = min((gateway.age_s for gateway in gateways), default=None)
        silent = Problem(Kind.ALL_SILENT if gateways else Kind.NEVER_REPORTED, age_s=age_s)
        state = RegionState.SILENT if gateways else RegionState.NEVER
        return Health(state, (silent, *_reconciler(deployments, reports)))
    answering = _answering(alive, deployments)
    problems = (
        *answering,
        *_reconciler(deployments, reports),
        *(Problem(Kind.NOT_DEPLOYED, name) for name in sold_but_not_deployed),
        *_replicas(deployments),
        *_gateways(gateways, newest),
    )
    return Health(_state(problems, deployments), tuple(sorted(problems, key=lambda problem: not problem.critical)))


def is_behind(gateway: GatewaySeen, newest: Newest) -> bool:
    """Whether it had the time to take the newest snapshot, and did not."""
    return gateway.snapshot_version != newest.version and newest.age_s >= BEHIND_S


def _state(problems: Sequence[Problem], deployments: Sequence[DeploymentSeen]) -> RegionState:
    if any(problem.kind is Kind.NOTHING_ANSWERS for problem in problems):
        return RegionState.DOWN
    if not deployments:
        return RegionState.IDLE
    return RegionState.DEGRADED if problems else RegionState.HEALTHY


def _answering(alive: Sequence[GatewaySeen], deployments: Sequence[DeploymentSeen]) -> list[Problem]:
    if not deployments:
        return [Problem(Kind.NOTHING_DEPLOYED)]
    if not any(gateway.healthy for gateway in alive):
        return [Problem(Kind.NOTHING_ANSWERS)]
    problems = []
    for deployment in deployments:
        have = sum(deployment.name in gateway.healthy for gateway in alive)
        # Nobody looks after what has no price, and without wanted replicas there is nobody to answer.
        if deployment.sold and deployment.wanted and have < len(alive):
            kind = Kind.ANSWERS_IN_PART if have else Kind.NOT_ANSWERING
            problems.append(Problem(kind, deployment.name, have=have, want=len(alive)))
    return problems


def _reconciler(deployments: Sequence[DeploymentSeen], reports: Sequence[float]) -> list[Problem]:
    if not deployments:
        return []
    if not reports:
        return [Problem(Kind.RECONCILER_NEVER)]
    if min(reports) >= RECONCILER_ALIVE_S:
        return [Problem(Kind.RECONCILER_SILENT, age_s=min(reports))]
    if any(deployment.state == UNREACHABLE for deployment in deployments):
        return [Problem(Kind.RAY_UNREACHABLE)]
    return []


def _replicas(deployments: Sequence[DeploymentSeen]) -> list[Problem]:
    return [
        Problem(Kind.REPLICAS_MISSING, deployment.name, have=deployment.running, want=deployment.wanted)
        for deployment in deployments
        # While Ray is away nobody knows how many run, and that is said already.
        if deployment.state not in (None, UNREACHABLE) and deployment.running < deployment.wanted
    ]


def _gateways(gateways: Sequence[GatewaySeen], newest: Newest) -> list[Problem]:
    problems = []
    for gateway in gateways:
        if not gateway.alive:
            if gateway.age_s < RETIRED_S:
                problems.append(Problem(Kind.GATEWAY_SILENT, gateway.name, age_s=gateway.age_s))
        elif is_behind(gateway, newest):
            problems.append(Problem(Kind.GATEWAY_BEHIND, gateway.name, age_s=newest.age_s))
    return problems
