"""How much to lease ahead, from how fast a tenant spends. Pure and exact: money is whole nanos, time milliseconds."""

from dataclasses import dataclass

# Spending is averaged over about this time: short enough to follow a burst, long enough to outlast a pause between two
# answers.
_MEMORY_MS = 10_000
# A grant should last so long, if it admits that long.
FIRST_LASTS_MS = 30_000


@dataclass(frozen=True, slots=True)
class Burn:
    """Spending per 1000 s, averaged, as of an instant and a sum."""

    at_ms: int
    spent_nano: int
    nano_per_ks: int = 0

    def observed(self, now_ms: int, spent_nano: int) -> "Burn":
        """The average with what was spent since: the older part counts as long as `_MEMORY_MS` would."""
        elapsed_ms = now_ms - self.at_ms
        if elapsed_ms <= 0:
            return self
        remembered = self.nano_per_ks * _MEMORY_MS
        fresh = (spent_nano - self.spent_nano) * 1_000_000
        return Burn(now_ms, spent_nano, (remembered + fresh) // (_MEMORY_MS + elapsed_ms))


def next_grant_nano(burn: Burn, *, held_nano: int, lasts_ms: int, least_nano: int) -> int:
    """What to lease ahead: what holds take now, since the next ones will need as much, and what is spent until the
    grant ends; `least_nano` on top, for a tenant of whom nothing is known yet. The control plane lends less of it when
    little is left."""
    return least_nano + held_nano + burn.nano_per_ks * lasts_ms // 1_000_000
