"""A tenant's leased budget in one gateway. Pure: time is passed in, money is whole nanos.

A hold is the upper bound of one request's price, taken inside one grant. It ends exactly once, and its charge is at
most the hold, so that what a grant holds and has spent never exceeds its amount. A grant admits until `admit_until`;
then it is retired, and what is neither held nor spent goes back at once, the rest when its last hold has ended.
"""

from dataclasses import dataclass, field
from uuid import UUID

# The next grant is asked for when this part of the current one's admission time has passed, or half of it is used.
_LEASE_AHEAD_AFTER = 2 / 3
_MAX_ADMITTING = 2


class HoldEnded(Exception):
    """A hold was to be settled twice: a programmer's error."""


@dataclass(slots=True)
class LeasedGrant:
    """One grant. Instants are seconds on this machine's monotonic clock."""

    grant_id: UUID
    amount_nano: int
    asked_at: float
    admit_until: float
    settle_by: float
    release_at: float
    held_nano: int = 0
    spent_nano: int = 0
    open_holds: int = 0
    retired: bool = False

    @property
    def free_nano(self) -> int:
        """What a new hold could take."""
        return self.amount_nano - self.held_nano - self.spent_nano


@dataclass(slots=True)
class Hold:
    """One request's part of a grant of `book`."""

    book: "TenantBook" = field(repr=False)
    grant: LeasedGrant
    amount_nano: int
    ended: bool = False


@dataclass(slots=True)
class TenantBook:
    """All grants of one tenant that may still admit, oldest first, and what is to be returned of the others."""

    admitting: list[LeasedGrant] = field(default_factory=list)
    open_holds: int = 0
    due_returns: dict[UUID, tuple[int, float]] = field(default_factory=dict)
    """Cumulative nanos to return per grant, and until when it is worth telling."""

    def add(self, grant: LeasedGrant) -> None:
        """Take a fresh grant into use."""
        self.admitting.append(grant)

    def hold(self, now: float, amount_nano: int) -> Hold | None:
        """Take `amount_nano` from the oldest grant that has it; `None` when none has."""
        self.retire_due(now)
        for grant in self.admitting:
            if grant.free_nano >= amount_nano:
                grant.held_nano += amount_nano
                grant.open_holds += 1
                self.open_holds += 1
                return Hold(self, grant, amount_nano)
        return None

    def settle(self, hold: Hold, charged_nano: int) -> None:
        """End a hold with its charge, from 0 to the hold. Raises `HoldEnded` the second time."""
        if hold.ended:
            raise HoldEnded
        if not 0 <= charged_nano <= hold.amount_nano:
            raise ValueError("a charge is outside its hold")
        hold.ended = True
        grant = hold.grant
        grant.held_nano -= hold.amount_nano
        grant.spent_nano += charged_nano
        grant.open_holds -= 1
        self.open_holds -= 1
        if grant.retired and grant.open_holds == 0:
            self._give_back(grant)

    def wants_next(self, now: float) -> bool:
        """Whether the next grant should be leased now, given that there is traffic."""
        if len(self.admitting) >= _MAX_ADMITTING:
            return False
        if not self.admitting:
            return True
        current = self.admitting[-1]
        old_from = current.asked_at + _LEASE_AHEAD_AFTER * (current.admit_until - current.asked_at)
        return now >= old_from or current.free_nano * 2 <= current.amount_nano

    def free_nano(self) -> int:
        """What new holds could take at most, all grants together."""
        return sum(grant.free_nano for grant in self.admitting)

    def retire_due(self, now: float) -> None:
        """Retire the grants whose admission is over."""
        for grant in [grant for grant in self.admitting if now >= grant.admit_until]:
            self._retire(grant)

    def retire_all(self) -> None:
        """Retire everything: at the end of the process, or to ask for one bigger hold."""
        for grant in tuple(self.admitting):
            self._retire(grant)

    def retire_oldest(self) -> None:
        """Make room for a fresh grant: the oldest of two gives back what it has left."""
        while len(self.admitting) >= _MAX_ADMITTING:
            self._retire(self.admitting[0])

    def _retire(self, grant: LeasedGrant) -> None:
        grant.retired = True
        self.admitting.remove(grant)
        self._give_back(grant)

    def _give_back(self, grant: LeasedGrant) -> None:
        if grant.free_nano > 0:
            self.due_returns[grant.grant_id] = (grant.free_nano, grant.release_at)
