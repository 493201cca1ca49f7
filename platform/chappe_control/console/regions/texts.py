"""Every state and problem of a region in words: what is wrong, what that means, and what to do."""

from msgspec import Struct

from chappe_control.console.regions.health import Kind, Problem, RegionState
from chappe_control.pages.languages import N_


class StateText(Struct, frozen=True):
    """A state's name, and the colour of its badge."""

    name: str
    colour: str


class ProblemText(Struct, frozen=True):
    """`%(subject)s` is a gateway or a deployment, `%(have)s` and `%(want)s` are counts. The page adds since when."""

    title: str
    meaning: str
    action: str


STATES = {
    RegionState.DOWN: StateText(N_("Down"), "red"),
    RegionState.SILENT: StateText(N_("Silent"), "red"),
    RegionState.DEGRADED: StateText(N_("Degraded"), "yellow"),
    RegionState.NEVER: StateText(N_("Never reported"), "secondary"),
    RegionState.IDLE: StateText(N_("Nothing deployed"), "secondary"),
    RegionState.HEALTHY: StateText(N_("Healthy"), "green"),
}

_PROBLEMS = {
    Kind.NEVER_REPORTED: ProblemText(
        N_("No gateway of this region has ever reported"),
        N_("The cell is not connected yet. Nothing can be served here."),
        N_("Start a gateway with this region's credential and the control plane's address; its log says what fails."),
    ),
    Kind.ALL_SILENT: ProblemText(
        N_("No gateway reports any more"),
        N_(
            "The cell is down, or cut off from the control plane. A cell that is only cut off keeps serving until its "
            "snapshot and its grants run out. Requests that may run elsewhere are sent there."
        ),
        N_("Check the site and its network, then the gateways and their logs."),
    ),
    Kind.GATEWAY_SILENT: ProblemText(
        N_("Gateway %(subject)s has gone silent"),
        N_("It has ended or cannot reach the control plane. The other gateways of the region go on."),
        N_("Check that it runs. If it was taken away on purpose, this ends by itself after ten minutes."),
    ),
    Kind.GATEWAY_BEHIND: ProblemText(
        N_("Gateway %(subject)s runs an old snapshot"),
        N_("It does not know the newest prices, models and revoked keys. When its snapshot is too old, it stops."),
        N_("Look for “snapshot” in its log. If it cannot read the new snapshot, restart it."),
    ),
    Kind.NOTHING_DEPLOYED: ProblemText(
        N_("No deployment belongs to this region"),
        N_("Its gateways are up, and there is nothing for them to serve."),
        N_("Add deployments to the catalogue and apply it."),
    ),
    Kind.NOTHING_ANSWERS: ProblemText(
        N_("No deployment answers"),
        N_("Requests here are refused with “region_unavailable”, or sent to another region that the tenant allows."),
        N_("See what the deployments say, then check Ray Serve and the engines' logs."),
    ),
    Kind.NOT_ANSWERING: ProblemText(
        N_("%(subject)s does not answer"),
        N_("Requests for this model are refused with “model_unavailable”."),
        N_("See what the deployment says, then check its engine's log."),
    ),
    Kind.ANSWERS_IN_PART: ProblemText(
        N_("%(subject)s answers only %(have)s of %(want)s gateways"),
        N_("Requests for this model are refused at the other gateways."),
        N_("Check the network between those gateways and Ray Serve."),
    ),
    Kind.NOT_DEPLOYED: ProblemText(
        N_("%(subject)s is sold here and not deployed"),
        N_("Tenants see the model with a price and get “model_unavailable”."),
        N_("Deploy it in this region, or stop selling it here, and apply the catalogue."),
    ),
    Kind.REPLICAS_MISSING: ProblemText(
        N_("%(subject)s runs %(have)s of %(want)s replicas"),
        N_("There is less capacity than planned; answers may take longer."),
        N_("See what the deployment says: replicas may be starting, or lack memory or GPUs."),
    ),
    Kind.RECONCILER_NEVER: ProblemText(
        N_("The reconciler has never reported"),
        N_("Nobody starts what the catalogue wants here, and nobody says what runs."),
        N_("Start the reconciler with this region's credential."),
    ),
    Kind.RECONCILER_SILENT: ProblemText(
        N_("The reconciler has gone silent"),
        N_("What runs goes on. Changes of the catalogue wait, and states and replicas below are old."),
        N_("Check that the reconciler runs and reaches the control plane."),
    ),
    Kind.RAY_UNREACHABLE: ProblemText(
        N_("Ray does not answer"),
        N_("The reconciler cannot reach the region's Ray cluster: it may be down, with all models."),
        N_("Check the Ray head and its log."),
    ),
}


def explain(problem: Problem) -> ProblemText:
    """The words for a problem, still to be translated."""
    return _PROBLEMS[problem.kind]
