"""How far apart two tenants' services are in any time in which both always have something waiting."""

from dataclasses import dataclass

from tests.simulator.scenarios import PAIR
from tests.simulator.world import World


@dataclass
class PairWatch:
    """Of all times between two looks, the one with the greatest difference is the range of what was seen."""

    least: int = 0
    most: int = 0

    def __call__(self, world: World, now: float) -> None:
        one, two = PAIR
        difference = world.served(one, now) - world.served(two, now)
        self.least = min(self.least, difference)
        self.most = max(self.most, difference)
        # Otherwise the theorem says nothing, and this test would neither.
        assert now == 0.0 or (world.waiting_of(one) and world.waiting_of(two))

    @property
    def gap(self) -> int:
        return self.most - self.least
