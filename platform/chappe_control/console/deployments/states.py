"""Ray Serve's states of an application, in words and colours."""

from collections.abc import Mapping

from msgspec import Struct

from chappe_control.console.regions.health import UNREACHABLE, DeploymentSeen
from chappe_control.pages.languages import N_


class StateText(Struct, frozen=True):
    name: str
    colour: str


_UNKNOWN = StateText(N_("Never reported"), "secondary")
_STATES: Mapping[str, StateText] = {
    "running": StateText(N_("Running"), "green"),
    "deploying": StateText(N_("Starting"), "blue"),
    "not_started": StateText(N_("Not started"), "yellow"),
    "deleting": StateText(N_("Ending"), "yellow"),
    "unhealthy": StateText(N_("Unhealthy"), "red"),
    "deploy_failed": StateText(N_("Failed to start"), "red"),
    UNREACHABLE: StateText(N_("Ray does not answer"), "red"),
}


def describe(seen: DeploymentSeen) -> StateText:
    """A state that a newer Ray invents is shown as it is called there."""
    if seen.state is None:
        return _UNKNOWN
    return _STATES.get(seen.state, StateText(seen.state, "yellow"))
