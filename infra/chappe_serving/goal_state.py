"""What Ray Serve shall run, and whether it does: pure functions over the dashboard's JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from chappe_kernel.wire.control import DeploymentSpec, DeploymentStatus

IMPORT_PATH = "chappe_serving.app:build"
_MESSAGE_CHARACTERS = 500


class ReplicaDetails(Struct):
    state: str = ""


class DeploymentDetails(Struct):
    message: str = ""
    replicas: list[ReplicaDetails] = []


class ApplicationDetails(Struct):
    """The part of Serve's `ApplicationDetails` that we look at."""

    status: str = "NOT_STARTED"
    message: str = ""
    deployed_app_config: dict[str, Any] | None = None
    deployments: dict[str, DeploymentDetails] = {}


class ServeDetails(Struct):
    """The answer of `GET /api/serve/applications/`."""

    applications: dict[str, ApplicationDetails] = {}


def goal_state(specs: Sequence[DeploymentSpec], host: str, port: int) -> dict[str, Any]:
    """The body of `PUT /api/serve/applications/`: all of it, since an application left out is deleted."""
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": host, "port": port},
        "applications": [_application(spec) for spec in specs],
    }


def is_reached(goal: Mapping[str, Any], details: ServeDetails) -> bool:
    """Whether Serve already works on exactly this goal. An application that failed to deploy has to be put again."""
    running = {
        name: application.deployed_app_config or {}
        for name, application in details.applications.items()
        if application.status not in {"DELETING", "DEPLOY_FAILED", "NOT_STARTED"}
    }
    wanted = {application["name"]: application for application in goal["applications"]}
    # Serve fills in fields of its own: ours must be there unchanged.
    return running.keys() == wanted.keys() and all(
        application == {field: running[name].get(field) for field in application}
        for name, application in wanted.items()
    )


def statuses(specs: Sequence[DeploymentSpec], details: ServeDetails | None) -> list[DeploymentStatus]:
    """One per deployment that should run here, and per application that does. `None`: Ray is away."""
    if details is None:
        return [DeploymentStatus(spec.name, "unreachable", "Ray does not answer", 0) for spec in specs]
    names = dict.fromkeys([spec.name for spec in specs] + list(details.applications))
    return [_status(name, details.applications.get(name, ApplicationDetails())) for name in names]


def _application(spec: DeploymentSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "route_prefix": f"/{spec.name}",
        "import_path": IMPORT_PATH,
        "args": msgspec.to_builtins(spec),
    }


def _status(name: str, application: ApplicationDetails) -> DeploymentStatus:
    replicas = [replica for each in application.deployments.values() for replica in each.replicas]
    return DeploymentStatus(
        name=name,
        state=application.status.lower(),
        message=_message(application),
        replicas_running=sum(replica.state == "RUNNING" for replica in replicas),
    )


def _message(application: ApplicationDetails) -> str:
    """The end of what Serve says: it puts tracebacks here, and the cause stands last."""
    said = [application.message, *(each.message for each in application.deployments.values())]
    return "\n".join(text[-_MESSAGE_CHARACTERS:] for text in said if text)
