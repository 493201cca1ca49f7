"""Which money pays for an event: first its grant's, then free funds; what neither covers is the operator's loss."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from msgspec import Struct

from chappe_kernel.wire.control import UsageEvent


class Allocation(Struct, frozen=True):
    """`granted` leaves the grant's pending money, `taken` leaves free funds, `written_off` is paid by nobody."""

    granted_nano: int
    taken_nano: int
    written_off_nano: int

    @property
    def charged_nano(self) -> int:
        """What the tenant pays."""
        return self.granted_nano + self.taken_nano


def allocate(
    events: Iterable[UsageEvent], grant_rest_nano: Mapping[UUID, int], free_nano: Mapping[UUID, int]
) -> list[Allocation]:
    """One allocation for each event, in order.

    `grant_rest_nano`: what open grants could still spend, by grant; closed and unknown ones are missing.
    `free_nano`: what may still be spent or lent, by tenant. Neither is ever overdrawn.
    """
    rest = dict(grant_rest_nano)
    free = dict(free_nano)
    allocations = []
    for event in events:
        granted = min(event.amount_nano, rest.get(event.grant_id, 0))
        taken = min(event.amount_nano - granted, free[event.tenant_id])
        if granted:
            rest[event.grant_id] -= granted
        free[event.tenant_id] -= taken
        allocations.append(Allocation(granted, taken, event.amount_nano - granted - taken))
    return allocations
