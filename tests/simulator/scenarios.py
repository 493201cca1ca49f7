"""What a seed means: tenants, an engine and faults, drawn from it. `PAIR` always have something waiting."""

from random import Random

from chappe_kernel.fairness.dispatcher import QueueBounds
from chappe_kernel.fairness.line import Priority
from tests.simulator.engine import GPU, EngineModel
from tests.simulator.world import Faults, Scenario, Tenant

PAIR = ("one", "two")
_ROOMY = QueueBounds(total=100_000, of_account=100_000)


def mixed(seed: int) -> Scenario:
    """Two tenants of equal weight that never stop, beside others that come and go, with faults."""
    draw = Random(seed)  # noqa: S311  # a simulation
    slots = draw.choice((2, 4, 8, 16))
    engine = EngineModel(slots, draw.choice((500.0, 2000.0)), draw.choice((40.0, 100.0)))
    pair = [
        Tenant(
            name,
            keeps_waiting=draw.choice((2, 3, 20)),
            prompt_tokens=(1, draw.choice((20, 300, 1500))),
            completion_tokens=(1, draw.choice((10, 100, 400))),
            overstates=draw.choice((1.0, 2.0, 30.0)),
            priority=draw.choice((Priority.INTERACTIVE, Priority.STANDARD)),
            leaves_after_s=draw.choice((None, None, 5.0)),
        )
        for name in PAIR
    ]
    others = [
        Tenant(
            f"other-{number}",
            requests_per_s=draw.uniform(0.1, 2.0),
            prompt_tokens=(1, draw.choice((50, 800))),
            completion_tokens=(1, draw.choice((20, 200))),
            overstates=draw.choice((1.0, 20.0)),
            weight=draw.choice((1, 2, 5)),
            priority=draw.choice(list(Priority)),
            account=draw.choice(("", "unverified")),
            leaves_after_s=draw.choice((None, 3.0)),
        )
        for number in range(draw.randint(0, 3))
    ]
    return Scenario(
        seed,
        (*pair, *others),
        lasts_s=draw.uniform(2.5, 9),
        engine=engine,
        capacity=draw.choice((slots, slots * 2)),
        bounds=_ROOMY,
        patience_s=1e6,
        faults=Faults(draw.choice((0.0, 5.0)), draw.choice((0.0, 5.0)), draw.choice((0.0, 3.0))),
    )


def flood(seed: int, *, flooding: bool, cold: bool = False) -> Scenario:
    """A tenant that behaves, and one that asks for 50 times its half of what the engine can do. `cold`: only the first
    seconds, with bounds that overstate as the default output does, and the flood is there first."""
    overstates, lasts_s, from_s = (25.0, 20.0, 1.0) if cold else (4.0, 120.0, 0.0)
    engine = GPU
    # A request takes 0.39 s of prefill and 5.25 s of tokens on average: half of 64 slots do 5.7 in a second.
    seconds = (50 + 1500) / 2 / engine.prefill_tokens_per_s + (20 + 400) / 2 / engine.decode_tokens_per_s
    share_per_s = engine.slots / 2 / seconds
    tenants = [Tenant("good", requests_per_s=share_per_s / 2, overstates=overstates, from_s=from_s)]
    if flooding:
        tenants.append(Tenant("flood", requests_per_s=50 * share_per_s, overstates=overstates))
    return Scenario(seed, tuple(tenants), lasts_s=lasts_s, engine=engine, capacity=engine.slots)
