"""Holds for requests, out of grants leased from the control plane, the next one leased ahead.

There is one book per tenant and set of monthly budgets that a request must keep to: most tenants have one.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from chappe_gateway.control_client import ControlClient, ControlUnreachable
from chappe_gateway.grants import Hold, LeasedGrant, TenantBook
from chappe_kernel.clock import Clock
from chappe_kernel.errors import ChappeError, InsufficientFunds, Unavailable
from chappe_kernel.ids import new_id
from chappe_kernel.wire.control import AskGrant

_log = structlog.get_logger()

# Others may take a fresh grant before the one who waited for it: ask again this often, then say that it is busy.
_MAX_ASKS = 8
# While the control plane refuses or is away, leasing ahead is not tried at every request.
_AHEAD_PAUSE_S = 0.5
_RETURN_PERIOD_S = 0.25


@dataclass(frozen=True, slots=True)
class _Ask:
    """A grant asked for. It keeps its id and the time of its first asking until there is an answer."""

    grant_id: UUID
    asked_at: float
    wanted_nano: int
    minimum_nano: int


_Account = tuple[UUID, tuple[UUID, ...]]
"""A tenant, and the monthly budgets within which its grants are leased."""


@dataclass(slots=True)
class _Tenant:
    tenant_id: UUID
    budgets: tuple[UUID, ...]
    book: TenantBook = field(default_factory=TenantBook)
    lease: asyncio.Task[None] | None = None
    lease_minimum_nano: int = 0
    unanswered: _Ask | None = None
    waiting_nano: int = 0
    waiting: int = 0
    ahead_after: float = 0.0


class GrantKeeper:
    """All tenants' money in this process."""

    def __init__(self, control: ControlClient, clock: Clock, gateway_id: str, block_nano: int) -> None:
        self._control = control
        self._clock = clock
        self._gateway_id = gateway_id
        self._block_nano = block_nano
        self._tenants: dict[_Account, _Tenant] = {}
        self._ahead: set[asyncio.Task[None]] = set()

    async def hold(self, tenant_id: UUID, amount_nano: int, budgets: tuple[UUID, ...] = ()) -> Hold:
        """Set `amount_nano` aside, of the tenant's funds and within these monthly budgets.

        Raises `InsufficientFunds`, `Unavailable` (`budget_unavailable`).
        """
        account = (tenant_id, budgets)
        tenant = self._tenants.get(account)
        if tenant is None:
            tenant = self._tenants[account] = _Tenant(tenant_id, budgets)
        now = self._clock.monotonic()
        hold = tenant.book.hold(now, amount_nano)
        if hold is None:
            hold = await self._hold_after_lease(tenant, amount_nano)
        if tenant.lease is None and now >= tenant.ahead_after and tenant.book.wants_next(now):
            self._lease_ahead(tenant)
        return hold

    def settle(self, hold: Hold, charged_nano: int) -> None:
        """End a hold, once."""
        hold.book.settle(hold, charged_nano)

    def forget_leases(self) -> None:
        """The database was restored: ask for new grants, which it knows; the old ones only end."""
        for tenant in self._tenants.values():
            tenant.book.retire_all()

    async def run_returns(self) -> None:
        """Give back for ever what is due, and forget tenants without traffic."""
        while True:
            await asyncio.sleep(_RETURN_PERIOD_S)
            now = self._clock.monotonic()
            for account, tenant in tuple(self._tenants.items()):
                tenant.book.retire_due(now)
                await self._send_returns(tenant)
                if self._is_idle(tenant):
                    del self._tenants[account]

    async def close(self) -> None:
        """Give everything back, as far as the control plane is there to take it."""
        for task in self._ahead:
            task.cancel()
        for tenant in self._tenants.values():
            tenant.book.retire_all()
            await self._send_returns(tenant)

    def open_holds(self) -> int:
        """How many holds have not ended."""
        return sum(tenant.book.open_holds for tenant in self._tenants.values())

    async def _hold_after_lease(self, tenant: _Tenant, amount_nano: int) -> Hold:
        tenant.waiting += 1
        tenant.waiting_nano += amount_nano
        try:
            for _ in range(_MAX_ASKS):
                await self._lease(tenant, amount_nano)
                hold = tenant.book.hold(self._clock.monotonic(), amount_nano)
                if hold is not None:
                    return hold
        finally:
            tenant.waiting -= 1
            tenant.waiting_nano -= amount_nano
        raise Unavailable("too many requests compete for this budget; try again", code="budget_unavailable")

    async def _lease(self, tenant: _Tenant, amount_nano: int) -> None:
        """Wait for a grant: the one that is being asked for, then one of our own.

        A refusal counts for everybody who was already waiting when the question went out and needs no less; nobody
        is refused by an answer that is older than the request.
        """
        if tenant.lease is not None:
            with contextlib.suppress(ChappeError):
                # Asked before we came: its refusal is not our answer.
                await asyncio.shield(tenant.lease)
            if tenant.book.free_nano() >= amount_nano:
                return
        if tenant.lease is None:
            tenant.lease_minimum_nano = amount_nano
            tenant.lease = asyncio.create_task(self._ask_or_recall(tenant, amount_nano))
            tenant.lease.add_done_callback(lambda _: setattr(tenant, "lease", None))
        minimum_nano = tenant.lease_minimum_nano
        try:
            await asyncio.shield(tenant.lease)
        except (InsufficientFunds, Unavailable):
            if minimum_nano <= amount_nano:
                raise

    async def _ask_or_recall(self, tenant: _Tenant, amount_nano: int) -> None:
        wanted_nano = max(self._block_nano, tenant.waiting_nano)
        try:
            await self._ask(tenant, wanted_nano, amount_nano)
        except (InsufficientFunds, Unavailable) as error:
            # What we lease and do not use, within whatever budgets, may be just what is missing: give it back and ask
            # for no more than needed.
            idle = [other for other in self._of(tenant.tenant_id) if other.book.free_nano() > 0]
            if isinstance(error, ControlUnreachable) or not idle:
                raise
            for other in idle:
                other.book.retire_all()
                await self._send_returns(other)
            await self._ask(tenant, amount_nano, amount_nano)

    def _of(self, tenant_id: UUID) -> list[_Tenant]:
        return [tenant for tenant in self._tenants.values() if tenant.tenant_id == tenant_id]

    def _lease_ahead(self, tenant: _Tenant) -> None:
        task = asyncio.create_task(self._ask_ahead(tenant))
        tenant.lease = task
        tenant.lease_minimum_nano = self._block_nano
        self._ahead.add(task)
        task.add_done_callback(self._ahead.discard)
        task.add_done_callback(lambda _: setattr(tenant, "lease", None))

    async def _ask_ahead(self, tenant: _Tenant) -> None:
        try:
            # All or nothing: near exhaustion budget is leased request by request.
            await self._ask(tenant, self._block_nano, self._block_nano)
        except ChappeError:
            # There is still the current grant, and whoever needs more will ask for it.
            tenant.ahead_after = self._clock.monotonic() + _AHEAD_PAUSE_S

    async def _ask(self, tenant: _Tenant, wanted_nano: int, minimum_nano: int) -> None:
        ask = tenant.unanswered or _Ask(new_id(), self._clock.monotonic(), wanted_nano, minimum_nano)
        tenant.unanswered = ask
        try:
            grant = await self._control.ask_grant(
                AskGrant(
                    ask.grant_id,
                    tenant.tenant_id,
                    self._gateway_id,
                    ask.wanted_nano,
                    ask.minimum_nano,
                    tenant.budgets,
                )
            )
        except ControlUnreachable:
            # It may exist: the same id is asked for again, so that no money is leased twice.
            raise
        except (InsufficientFunds, Unavailable):
            tenant.unanswered = None
            raise
        tenant.unanswered = None
        tenant.book.retire_oldest()
        tenant.book.add(
            LeasedGrant(
                grant_id=grant.grant_id,
                amount_nano=grant.amount_nano,
                asked_at=ask.asked_at,
                admit_until=ask.asked_at + grant.admit_for_s,
                settle_by=ask.asked_at + grant.settle_for_s,
                release_at=ask.asked_at + grant.release_for_s,
            )
        )

    async def _send_returns(self, tenant: _Tenant) -> None:
        for grant_id, (returned_nano, until) in tuple(tenant.book.due_returns.items()):
            try:
                taken = await self._control.return_grant(grant_id, returned_nano)
            except ControlUnreachable:
                # Past its release the control plane has freed it by itself.
                taken = self._clock.monotonic() >= until
            if taken and tenant.book.due_returns.get(grant_id) == (returned_nano, until):
                del tenant.book.due_returns[grant_id]

    def _is_idle(self, tenant: _Tenant) -> bool:
        book = tenant.book
        return not (
            book.admitting or book.open_holds or book.due_returns or tenant.waiting or tenant.lease or tenant.unanswered
        )
