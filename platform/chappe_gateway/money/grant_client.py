"""Holds for requests, out of grants leased from the control plane, the next one leased ahead.

There is one account per tenant and set of monthly budgets that a request must keep to: most tenants have one. While it
has money, a hold is arithmetic. When it has none, requests wait in a queue: one question at a time goes to the control
plane on behalf of all, and what comes is dealt out in the order of their coming. The control plane recalls from others
what lies idle there, and from here what others need.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from chappe_gateway.control_client import ControlClient, ControlUnreachable
from chappe_gateway.money.grant_sizing import FIRST_LASTS_MS, Burn, next_grant_nano
from chappe_gateway.money.grants import Hold, LeasedGrant, TenantBook
from chappe_kernel.clock import Clock
from chappe_kernel.errors import ChappeError, InsufficientFunds, Unavailable
from chappe_kernel.ids import new_id
from chappe_kernel.wire.control import AskGrant, KeptGrant

_log = structlog.get_logger()

PATIENCE_S = 1.0
"""How long a request waits for money that is lent to others, before it is told to try again."""
# As long a question waits at the control plane: whoever comes meanwhile, and needs less, waits no longer than that.
_WAIT_THERE_S = 0.25
# While the control plane refuses or is away, leasing ahead is not tried at every request.
_AHEAD_PAUSE_S = 0.5
# What is not worth so many requests is not leased ahead: it would be asked for anew at once.
_AHEAD_WORTH_REQUESTS = 4
_RETURN_PERIOD_S = 0.25
# After a recall, for so long: nothing is leased ahead of need, and whatever becomes idle goes back at once.
_RECALLED_FOR_S = 1.0
_RECALLS_WAIT_S = 1.0
_RECALLS_PAUSE_S = 0.25


@dataclass(slots=True)
class _Waiter:
    """A request without a hold."""

    amount_nano: int
    give_up_at: float
    result: asyncio.Future[Hold]


_AccountKey = tuple[UUID, tuple[UUID, ...]]
"""A tenant, and the monthly budgets within which its grants are leased."""


@dataclass(slots=True)
class _Account:
    tenant_id: UUID
    budgets: tuple[UUID, ...]
    burn: Burn
    book: TenantBook = field(default_factory=TenantBook)
    waiters: list[_Waiter] = field(default_factory=list)
    lease: asyncio.Task[None] | None = None
    """Asks on behalf of the waiters, or ahead."""
    returning: asyncio.Task[None] | None = None
    unanswered: AskGrant | None = None
    """Nobody knows whether it had its effect: the same is asked again, so that no money is leased twice."""
    unanswered_since: float = 0.0
    ahead_after: float = 0.0
    recalled_until: float = 0.0
    lasts_ms: int = FIRST_LASTS_MS


class GrantKeeper:
    """All tenants' money in this process."""

    def __init__(self, control: ControlClient, clock: Clock, gateway_id: str, block_nano: int) -> None:
        self._control = control
        self._clock = clock
        self._gateway_id = gateway_id
        self._block_nano = block_nano
        self._accounts: dict[_AccountKey, _Account] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_use = asyncio.Event()

    async def hold(
        self,
        tenant_id: UUID,
        amount_nano: int,
        budgets: tuple[UUID, ...] = (),
        *,
        patience_s: float = PATIENCE_S,
    ) -> Hold:
        """Set `amount_nano` aside, of the tenant's funds and within these monthly budgets. What is lent to others is
        recalled, and waited for no longer than `patience_s`.

        Raises `InsufficientFunds`, `Unavailable` (`budget_unavailable`).
        """
        account = self._accounts.get((tenant_id, budgets))
        if account is None:
            account = self._open(tenant_id, budgets)
        now = self._clock.monotonic()
        hold = account.book.hold(now, amount_nano)
        if hold is None:
            hold = await self._wait(account, _Waiter(amount_nano, now + patience_s, _new_future()))
        if account.lease is None and now >= account.ahead_after and account.book.wants_next(now):
            self._lease_ahead(account, now, amount_nano)
        return hold

    def settle(self, hold: Hold, charged_nano: int) -> None:
        """End a hold, once."""
        hold.book.settle(hold, charged_nano)

    def forget_leases(self) -> None:
        """The database was restored: ask for new grants, which it knows; the old ones only end."""
        for account in self._accounts.values():
            account.book.retire_all()

    async def tell_kept(self) -> None:
        """Tell a restored database in which grants holds are still open; all of these are retired. Raises
        `ControlUnreachable`: then begin again."""
        for tenant in tuple(self._accounts.values()):
            for grant in tuple(tenant.book.in_use.values()):
                now = self._clock.monotonic()
                kept = KeptGrant(
                    tenant_id=tenant.tenant_id,
                    gateway=self._gateway_id,
                    amount_nano=grant.amount_nano,
                    returned_nano=grant.returned_nano + grant.free_nano,
                    settle_for_s=max(0.0, grant.settle_by - now),
                    release_for_s=max(0.0, grant.release_at - now),
                    budgets=tenant.budgets,
                )
                await self._control.keep_grant(grant.grant_id, kept)

    async def run_returns(self) -> None:
        """Give back for ever what is due, and forget tenants without traffic."""
        while True:
            await asyncio.sleep(_RETURN_PERIOD_S)
            now = self._clock.monotonic()
            for key, account in tuple(self._accounts.items()):
                account.book.retire_due(now)
                if account.book.due_returns:
                    self._return_soon(account)
                self._find_out(account, now)
                if _is_idle(account):
                    del self._accounts[key]
            if not self._accounts:
                self._in_use.clear()

    async def run_recalls(self) -> None:
        """Hear for ever what others need of what is leased here."""
        cursor = ""
        while True:
            await self._in_use.wait()
            try:
                recalls = await self._control.read_recalls(self._gateway_id, cursor, _RECALLS_WAIT_S)
            except ControlUnreachable:
                await asyncio.sleep(_RECALLS_PAUSE_S)
                continue
            cursor = recalls.cursor
            for tenant_id in recalls.tenants:
                self._recall(tenant_id)

    async def close(self) -> None:
        """Give everything back, as far as the control plane is there to take it."""
        for task in tuple(self._tasks):
            task.cancel()
        for account in self._accounts.values():
            account.book.retire_all()
            await self._send_returns(account)

    def open_holds(self) -> int:
        """How many holds have not ended."""
        return sum(account.book.open_holds for account in self._accounts.values())

    def _open(self, tenant_id: UUID, budgets: tuple[UUID, ...]) -> _Account:
        account = _Account(tenant_id, budgets, Burn(self._now_ms(), 0))
        self._accounts[tenant_id, budgets] = account
        self._in_use.set()
        return account

    async def _wait(self, account: _Account, waiter: _Waiter) -> Hold:
        account.waiters.append(waiter)
        account.book.on_end = partial(self._money_is_free, account)
        if account.lease is None:
            account.lease = self._run(self._lease_for_waiters(account))
        try:
            return await waiter.result
        except asyncio.CancelledError:
            # Its client is gone. It may have been served in the same moment.
            if waiter.result.done() and not waiter.result.cancelled() and waiter.result.exception() is None:
                self.settle(waiter.result.result(), 0)
            raise
        finally:
            if waiter in account.waiters:
                account.waiters.remove(waiter)

    def _money_is_free(self, account: _Account) -> None:
        """Those who wait here come first; then others, who had to recall it."""
        now = self._clock.monotonic()
        self._serve(account, now)
        if now < account.recalled_until:
            account.book.give_back_idle()
            if account.book.due_returns:
                self._return_soon(account)
        elif not account.waiters:
            account.book.on_end = None

    def _serve(self, account: _Account, now: float) -> None:
        for waiter in tuple(account.waiters):
            if waiter.result.done():
                continue
            hold = account.book.hold(now, waiter.amount_nano)
            if hold is not None:
                waiter.result.set_result(hold)
                account.waiters.remove(waiter)

    async def _lease_for_waiters(self, account: _Account) -> None:
        """Ask for as long as somebody waits. What comes unexpectedly is told to all of them."""
        try:
            while account.waiters:
                await self._lease_once(account)
        except BaseException as error:
            _refuse(account, tuple(account.waiters), error if isinstance(error, ChappeError) else _BROKEN)
            raise
        finally:
            account.lease = None

    async def _lease_once(self, account: _Account) -> None:
        """One question. A refusal is an answer for those who were already waiting when it went out and need no less:
        nobody is refused by an answer that is older than the request."""
        asked_at = self._clock.monotonic()
        waiting = tuple(account.waiters)
        idle = [other for other in self._of(account.tenant_id) if other.book.free_nano() > 0]
        patience_s = min(waiter.give_up_at for waiter in waiting) - asked_at
        wait_s = 0.0 if idle else min(_WAIT_THERE_S, max(0.0, patience_s))
        ask = account.unanswered or self._need(account, waiting, asked_at, wait_s)
        try:
            await self._lease(account, ask)
        except InsufficientFunds as refusal:
            _refuse(account, (one for one in waiting if one.amount_nano >= ask.minimum_nano), refusal)
        except ControlUnreachable as refusal:
            _refuse(account, waiting, refusal)
        except Unavailable as refusal:
            account.ahead_after = self._clock.monotonic() + _AHEAD_PAUSE_S
            # What we lease and do not use, within whatever budgets, may be just what is missing.
            for other in idle:
                other.book.give_back_idle()
                await self._send_returns(other)
            now = self._clock.monotonic()
            # Where it was, the next question may find it.
            given_up_at = now - _WAIT_THERE_S if idle else now
            _refuse(account, (one for one in waiting if one.give_up_at <= given_up_at), refusal)
            # A control plane that does not wait with us must not be asked all the time.
            await asyncio.sleep(max(0.0, asked_at + wait_s - now))
        now = self._clock.monotonic()
        self._serve(account, now)
        if now < account.recalled_until:
            self._money_is_free(account)

    def _need(self, account: _Account, waiting: tuple[_Waiter, ...], now: float, wait_s: float) -> AskGrant:
        needed_nano = sum(waiter.amount_nano for waiter in waiting)
        ahead_nano = 0 if now < account.recalled_until else self._next_grant_nano(account)
        return AskGrant(
            grant_id=new_id(),
            tenant_id=account.tenant_id,
            gateway=self._gateway_id,
            wanted_nano=max(needed_nano, ahead_nano),
            minimum_nano=min(waiter.amount_nano for waiter in waiting),
            budgets=account.budgets,
            needed_nano=needed_nano,
            wait_s=wait_s,
        )

    def _lease_ahead(self, account: _Account, now: float, amount_nano: int) -> None:
        if now < account.recalled_until:
            return
        wanted_nano = self._next_grant_nano(account)
        ask = AskGrant(
            grant_id=new_id(),
            tenant_id=account.tenant_id,
            gateway=self._gateway_id,
            wanted_nano=wanted_nano,
            minimum_nano=min(wanted_nano, _AHEAD_WORTH_REQUESTS * amount_nano),
            budgets=account.budgets,
            needed_nano=0,
        )
        account.lease = self._run(self._ask_ahead(account, account.unanswered or ask))

    async def _ask_ahead(self, account: _Account, ask: AskGrant) -> None:
        try:
            await self._lease(account, ask)
        except ChappeError:
            # There is still the current grant, and whoever needs more will ask for it.
            account.ahead_after = self._clock.monotonic() + _AHEAD_PAUSE_S
        finally:
            account.lease = None
            if account.waiters:
                self._serve(account, self._clock.monotonic())
                account.lease = self._run(self._lease_for_waiters(account))

    async def _lease(self, account: _Account, ask: AskGrant) -> None:
        """Raises what `ControlClient.ask_grant` raises."""
        if account.unanswered is None:
            account.unanswered, account.unanswered_since = ask, self._clock.monotonic()
        asked_at = account.unanswered_since
        try:
            grant = await self._control.ask_grant(ask)
        except ControlUnreachable:
            raise
        except (InsufficientFunds, Unavailable):
            account.unanswered = None
            raise
        account.unanswered = None
        account.lasts_ms = round(1000 * grant.admit_for_s)
        account.book.retire_oldest()
        account.book.add(
            LeasedGrant(
                grant_id=grant.grant_id,
                amount_nano=grant.amount_nano,
                asked_at=asked_at,
                admit_until=asked_at + grant.admit_for_s,
                settle_by=asked_at + grant.settle_for_s,
                release_at=asked_at + grant.release_for_s,
            )
        )

    def _find_out(self, account: _Account, now: float) -> None:
        """Whether a question without an answer has leased something, though no request comes that would ask again:
        until we have it nobody can give it back, and others are refused for it up to its release."""
        if account.unanswered is not None and account.lease is None and now >= account.ahead_after:
            account.lease = self._run(self._ask_ahead(account, account.unanswered))

    def _recall(self, tenant_id: UUID) -> None:
        until = self._clock.monotonic() + _RECALLED_FOR_S
        for account in self._of(tenant_id):
            account.recalled_until = until
            account.book.on_end = partial(self._money_is_free, account)
            self._money_is_free(account)

    def _return_soon(self, account: _Account) -> None:
        if account.returning is None:
            account.returning = self._run(self._return_all(account))

    async def _return_all(self, account: _Account) -> None:
        try:
            await self._send_returns(account)
        finally:
            account.returning = None

    async def _send_returns(self, account: _Account) -> None:
        due_returns = account.book.due_returns
        while due_returns:
            grant_id, (returned_nano, until) = next(iter(due_returns.items()))
            try:
                taken = await self._control.return_grant(grant_id, returned_nano)
            except ControlUnreachable:
                # Past its release the control plane has freed it by itself.
                taken = self._clock.monotonic() >= until
            if not taken:
                return
            if due_returns.get(grant_id) == (returned_nano, until):
                del due_returns[grant_id]

    def _of(self, tenant_id: UUID) -> list[_Account]:
        return [account for account in self._accounts.values() if account.tenant_id == tenant_id]

    def _next_grant_nano(self, account: _Account) -> int:
        account.burn = account.burn.observed(self._now_ms(), account.book.spent_nano)
        return next_grant_nano(
            account.burn, held_nano=account.book.held_nano, lasts_ms=account.lasts_ms, least_nano=self._block_nano
        )

    def _now_ms(self) -> int:
        return round(1000 * self._clock.monotonic())

    def _run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


_BROKEN = Unavailable("this gateway cannot lease budget now; try again", code="budget_unavailable")


def _new_future() -> asyncio.Future[Hold]:
    return asyncio.get_running_loop().create_future()


def _refuse(account: _Account, waiters: Iterable[_Waiter], refusal: ChappeError) -> None:
    for waiter in waiters:
        if waiter in account.waiters and not waiter.result.done():
            waiter.result.set_exception(refusal)
            account.waiters.remove(waiter)


def _is_idle(account: _Account) -> bool:
    book = account.book
    return not (
        book.admitting
        or book.open_holds
        or book.due_returns
        or account.waiters
        or account.lease
        or account.returning
        or account.unanswered
    )
