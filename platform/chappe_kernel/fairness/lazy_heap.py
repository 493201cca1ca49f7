"""A heap whose entries may die inside it: each operation is O(log n), amortised over the clearing away of the dead."""

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_FEW = 32


class LazyHeap(Generic[T]):
    """Items by key, then by number. `is_live(number, item)` says whether an entry still counts."""

    def __init__(self, is_live: Callable[[int, T], bool]) -> None:
        self._is_live = is_live
        self._entries: list[tuple[float, int, T]] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, key: float, number: int, item: T) -> None:
        """Numbers are unique."""
        heapq.heappush(self._entries, (key, number, item))

    def entry_died(self) -> None:
        """Tell of each one that dies elsewhere than at the top: when most are dead, they are cleared away."""
        self._dead += 1
        if self._dead > _FEW and self._dead * 2 > len(self._entries):
            self._entries = [entry for entry in self._entries if self._is_live(entry[1], entry[2])]
            heapq.heapify(self._entries)
            self._dead = 0

    def first(self) -> tuple[float, T] | None:
        """The first living entry."""
        entries = self._entries
        while entries:
            key, number, item = entries[0]
            if self._is_live(number, item):
                return key, item
            heapq.heappop(entries)
            self._dead = max(0, self._dead - 1)
        return None

    def pop(self) -> T | None:
        """Take out the first living entry."""
        if self.first() is None:
            return None
        return heapq.heappop(self._entries)[2]
