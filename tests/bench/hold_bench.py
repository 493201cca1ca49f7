"""What a request pays for its money while a grant lasts: `python -m tests.bench.hold_bench`.

Processor time of one hold and its settlement through the gateway's own `GrantKeeper`, with tenants that take turns,
with and without monthly budgets, and how often the control plane, a socket or a file was touched meanwhile. Exits with
1 when it is over the bar.
"""

import asyncio
import sys
import time
from typing import Any
from uuid import UUID

from msgspec import Struct

from chappe_gateway.control_client import ControlClient
from chappe_gateway.money.grant_client import GrantKeeper
from chappe_kernel.clock import SystemClock
from chappe_kernel.ids import new_id
from chappe_kernel.wire.control import AskGrant, Grant, Recalls

MAX_CPU_US = 15.0
_FUNDS_NANO = 10**15
_HOLD_NANO = 400_000
_CHARGE_NANO = 25_000
_IN_FLIGHT = 64
"""Holds that stand at any time."""
_WATCHED = ("socket.", "open", "os.", "sqlite3.")


class Measured(Struct, frozen=True):
    """`cpu_us` is of one hold with its settlement."""

    cpu_us: float
    asked: int
    touched: int


class _Bank(ControlClient):
    """Lends whatever is wanted, once for each account, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    async def ask_grant(self, ask: AskGrant) -> Grant:
        self.asked += 1
        return Grant(ask.grant_id, _FUNDS_NANO, 3600.0, 3700.0, 3800.0)

    async def return_grant(self, grant_id: UUID, returned_nano: int) -> bool:
        self.asked += 1
        return True

    async def read_recalls(self, gateway: str, cursor: str, wait_s: float) -> Recalls:
        await asyncio.sleep(wait_s)
        return Recalls("", ())


class _Watch:
    """Counts what Python's own audit events say of files and sockets, while it is on."""

    def __init__(self) -> None:
        self.touched = 0
        self.on = False
        sys.addaudithook(self._see)

    def _see(self, event: str, _: Any) -> None:
        if self.on and event.startswith(_WATCHED):
            self.touched += 1


async def measure(requests: int = 20_000, tenants: int = 10, budgets: int = 0) -> Measured:
    """One round, after each account has its grant."""
    bank, watch = _Bank(), _Watch()
    keeper = GrantKeeper(bank, SystemClock(), "gw-1", block_nano=50_000_000)
    accounts = [(new_id(), tuple(new_id() for _ in range(budgets))) for _ in range(tenants)]
    for tenant, within in accounts:
        keeper.settle(await keeper.hold(tenant, _HOLD_NANO, within), 0)
    asked_before, watch.on = bank.asked, True
    began = time.process_time()
    standing = [await keeper.hold(tenant, _HOLD_NANO, within) for tenant, within in accounts * (_IN_FLIGHT // tenants)]
    for number in range(requests):
        tenant, within = accounts[number % tenants]
        standing.append(await keeper.hold(tenant, _HOLD_NANO, within))
        keeper.settle(standing.pop(0), _CHARGE_NANO)
    cpu_s = time.process_time() - began
    watch.on = False
    for hold in standing:
        keeper.settle(hold, 0)
    return Measured(cpu_s / requests * 1e6, bank.asked - asked_before, watch.touched)


def main() -> None:
    failed = False
    for budgets in (0, 3):
        rounds = [asyncio.run(measure(100_000, budgets=budgets)) for _ in range(5)]
        times = sorted(one.cpu_us for one in rounds)
        asked, touched = sum(one.asked for one in rounds), sum(one.touched for one in rounds)
        sys.stdout.write(
            f"hold + settle within {budgets} monthly budgets: {times[0]:.2f} to {times[-1]:.2f} us of CPU in 5 rounds; "
            f"the control plane was asked {asked} times, files and sockets were touched {touched} times\n"
        )
        failed = failed or times[0] > MAX_CPU_US or asked + touched > 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
