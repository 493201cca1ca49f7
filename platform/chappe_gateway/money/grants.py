"""A tenant's leased budget in one gateway. Pure: time is passed in, money is whole nanos.

A hold is the upper bound of one request's price, taken inside one grant. It ends exactly once, and its charge is at
most the hold, so that what a grant holds, has spent and has given back never exceeds its amount. A grant admits until
`admit_until`; then it is retired, and whatever of it is neither held nor spent goes back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

# The next grant is asked for when this part of the current one's admission time has passed, or half of it is used.
_LEASE_AHEAD_AFTER = 2 / 3
# However long a grant admits, one that is older is renewed: so what is left, should the control plane go away now, is
# nearly all of the time that there may be.
_RENEW_AFTER_S = 300.0
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
    returned_nano: int = 0
    """In all, so far: it never falls."""
    open_holds: int = 0
    retired: bool = False

    @property
    def free_nano(self) -> int:
        """What a new hold could take, or be given back."""
        return self.amount_nano - self.held_nano - self.spent_nano - self.returned_nano

    @property
    def admits_for_s(self) -> float:
        """From its asking on."""
        return self.admit_until - self.asked_at


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
    held_nano: int = 0
    spent_nano: int = 0
    """All charges since the book was opened."""
    in_use: dict[UUID, LeasedGrant] = field(default_factory=dict)
    """Those with open holds, retired or not."""
    due_returns: dict[UUID, tuple[int, float]] = field(default_factory=dict)
    """Cumulative nanos to return per grant, and until when it is worth telling."""
    on_end: Callable[[], None] | None = None
    """Called whenever a hold has ended, as long as somebody waits for money. It costs nobody anything otherwise."""

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
                self.in_use[grant.grant_id] = grant
                self.open_holds += 1
                self.held_nano += amount_nano
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
        self.held_nano -= hold.amount_nano
        self.spent_nano += charged_nano
        if grant.open_holds == 0:
            self.in_use.pop(grant.grant_id, None)
        if grant.retired:
            self._give_back(grant)
        if self.on_end is not None:
            self.on_end()

    def wants_next(self, now: float) -> bool:
        """Whether the next grant should be leased now, given that there is traffic."""
        if len(self.admitting) >= _MAX_ADMITTING:
            return False
        if not self.admitting:
            return True
        current = self.admitting[-1]
        old_from = current.asked_at + min(_LEASE_AHEAD_AFTER * current.admits_for_s, _RENEW_AFTER_S)
        return now >= old_from or current.free_nano * 2 <= current.amount_nano

    def free_nano(self) -> int:
        """What new holds could take at most, all grants together."""
        return sum(grant.free_nano for grant in self.admitting)

    def retire_due(self, now: float) -> None:
        """Retire the grants whose admission is over."""
        for grant in [grant for grant in self.admitting if now >= grant.admit_until]:
            self._retire(grant)

    def give_back_idle(self) -> None:
        """Give back what no hold needs. The grants go on admitting, with what their holds leave over."""
        for grant in self.admitting:
            self._give_back(grant)

    def retire_all(self) -> None:
        """Retire everything: at the end of the process, or when the database is another one."""
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
            grant.returned_nano += grant.free_nano
            self.due_returns[grant.grant_id] = (grant.returned_nano, grant.release_at)
