"""What a request of a deployment costs on average: so much is one charged when it is dispatched, at most its bound.

Anything from nothing to the bound keeps what `counters` promises, since every charge is corrected in the end. Too much
is what hurts: whoever comes to wait is lifted to what the others were charged, and whoever was charged too much waits
until the others have caught up. Bounds overstate by as much as each client likes, so a part of them would be too much
for some; the average is too much for nobody by more than one usual request. What is too little favours an account by no
more than what it has in flight. So the first requests, of which nothing is known, are charged next to nothing.
"""

# The average is over about so many requests.
_REMEMBERED = 32


class ExpectedCost:
    """Of one deployment, as one process sees it, in weighted tokens. Of the first requests each counts alike."""

    __slots__ = ("_known", "average")

    def __init__(self) -> None:
        self.average = 0.0
        self._known = 0

    def of(self, bound: int) -> int:
        """What a request with this bound is charged."""
        return max(1, min(bound, int(self.average)))

    def learn(self, cost: int) -> bool:
        """A request did cost so much. Whether that says much more of those that run than was known when they began:
        after the first end, the second, the fourth and so on, until the average is an old one."""
        is_news = self._known < _REMEMBERED and (self._known + 1).bit_count() == 1
        self._known = min(self._known + 1, _REMEMBERED)
        self.average += (cost - self.average) / self._known
        return is_news
