"""The rules of fairness once more, written to be read: every step looks at everybody."""

from dataclasses import dataclass, field

from chappe_kernel.fairness.dispatcher import BATCH_EVERY
from chappe_kernel.fairness.line import HEAD_START_S, Priority


@dataclass
class Request:
    number: int
    account: str
    cost: int
    weight: int
    priority: Priority
    arrived_at: float
    lifts: int = 0
    charged: int = 0


@dataclass
class Kind:
    """One line."""

    level: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    lifts: dict[str, int] = field(default_factory=dict)
    correctable: dict[str, int] = field(default_factory=dict)
    waiting: list[Request] = field(default_factory=list)

    def come(self, request: Request, *, light: bool = False) -> None:
        account = request.account
        if not any(other.account == account for other in self.waiting):
            counter = self.counters.get(account, 0)
            floor = min([self.level, *(self.counters[other.account] for other in self.waiting)])
            self.correctable[account] = 0 if light else max(0, counter - floor)
            self.counters[account] = floor if light else max(counter, floor)
            self.lifts[account] = self.lifts.get(account, 0) + 1
        self.waiting.append(request)

    def serve(self) -> Request:
        lowest = min(self.counters[request.account] for request in self.waiting)
        account = self.longest_at({r.account for r in self.waiting if self.counters[r.account] == lowest})
        request = min(
            (request for request in self.waiting if request.account == account),
            key=lambda request: (request.arrived_at - HEAD_START_S[request.priority], request.number),
        )
        self.waiting.remove(request)
        request.charged = request.cost * 2**20 // request.weight
        request.lifts = self.lifts[account]
        self.counters[account] += request.charged
        self.level = self.counters[account] if not self.waiting else lowest
        return request

    def longest_at(self, accounts: set[str]) -> str:
        """Among equals anybody may be first."""
        return min(accounts)

    def charge_more(self, request: Request, cost: int) -> None:
        more = (cost - request.cost) * 2**20 // request.weight
        request.charged += more
        request.cost = cost
        self.counters[request.account] += more

    def end(self, request: Request, cost: int) -> None:
        account = request.account
        too_much = request.charged - cost * 2**20 // request.weight
        if too_much > 0 and request.lifts != self.lifts[account]:
            too_much = min(too_much, self.correctable[account])
            self.correctable[account] -= too_much
        self.counters[account] -= too_much


@dataclass
class NaiveDispatcher:
    limit: int
    line: Kind = field(default_factory=Kind)
    batch: Kind = field(default_factory=Kind)
    running: list[Request] = field(default_factory=list)
    since_batch: int = 0

    def kind(self, request: Request) -> Kind:
        return self.batch if request.priority is Priority.BATCH else self.line

    def lines_turn(self) -> Kind | None:
        """Whose turn it is; None while nothing may run."""
        room_for_batch = max(1, self.limit - -(-self.limit // 4))
        if len(self.running) >= self.limit:
            return None
        if self.batch.waiting and self.since_batch >= BATCH_EVERY - 1:
            return self.batch
        if self.line.waiting:
            return self.line
        return self.batch if self.batch.waiting and len(self.running) < room_for_batch else None
