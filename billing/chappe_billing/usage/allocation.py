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
    # By their numbers: ids themselves hash and compare in Python, ten times as slowly.
    rest = {grant_id.int: rest_nano for grant_id, rest_nano in grant_rest_nano.items()}
    free = {tenant_id.int: nano for tenant_id, nano in free_nano.items()}
    allocations = []
    for event in events:
        amount_nano, rest_nano = event.amount_nano, rest.get(event.grant_id.int, 0)
        if amount_nano <= rest_nano:
            rest[event.grant_id.int] = rest_nano - amount_nano
            allocations.append(Allocation(amount_nano, 0, 0))
            continue
        taken_nano = min(amount_nano - rest_nano, free[event.tenant_id.int])
        rest[event.grant_id.int] = 0
        free[event.tenant_id.int] -= taken_nano
        allocations.append(Allocation(rest_nano, taken_nano, amount_nano - rest_nano - taken_nano))
    return allocations
