"""Which client connections are kept when there are more than this process holds.

Only those that ask for nothing are let go: whoever has not sent a head yet, the oldest first, then whoever is idle
between two requests. So thousands of clients that say nothing keep nobody else out, health checks least of all.
"""

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from chappe_kernel.networks import Network, is_one_of, parse_address

_PART_LET_GO = 16
"""One in so many at once: to look through all of them costs milliseconds, which are so paid once in many newcomers."""


class Held(Protocol):
    """An open connection."""

    @property
    def peer(self) -> str | None:
        """The address at its other end; None on a unix socket."""
        ...

    def idle_since(self) -> tuple[bool, float] | None:
        """None while a request runs. Else whether it ever had one, and since when (the loop's time) it has none."""
        ...

    def abort(self) -> None:
        """Close it at once."""
        ...


class Crowd:
    """All connections of one process: at most `at_most`, and `per_address` of one address that is no proxy's.

    `per_address` 0 is no bound.
    """

    def __init__(self, at_most: int, per_address: int = 0, proxies: Sequence[Network] = ()) -> None:
        self._at_most = at_most
        self._per_address = per_address
        self._proxies = proxies
        self._held: set[Held] = set()
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def enter(self, newcomer: Held) -> bool:
        """Whether it may stay. `leave` must follow if so."""
        peer = newcomer.peer
        if peer is not None and self._of[peer] >= self._per_address > 0 and not self._is_proxy(peer):
            return False
        if len(self._held) >= self._at_most:
            self._let_go()
            if len(self._held) >= self._at_most:
                return False
        self._held.add(newcomer)
        if peer is not None:
            self._of[peer] += 1
        return True

    def leave(self, one: Held) -> None:
        """It is over. Safe to repeat, and for one that was not let in."""
        if one in self._held:
            self._held.remove(one)
            if one.peer is not None:
                self._of[one.peer] -= 1
                if not self._of[one.peer]:
                    del self._of[one.peer]

    def _let_go(self) -> None:
        idle = [(since, number, one) for number, one in enumerate(self._held) if (since := one.idle_since())]
        for _, _, one in heapq.nsmallest(max(1, self._at_most // _PART_LET_GO), idle):
            # At once, and not only when its transport has ended: the next newcomer may come before that.
            self.leave(one)
            one.abort()

    def _is_proxy(self, peer: str) -> bool:
        address = parse_address(peer)
        return address is not None and is_one_of(address, self._proxies)
