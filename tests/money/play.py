"""A play of the machine: who takes part, what they know, and each step that a rule may take with them.

Every step goes to the real services and to the books in memory, over a way that may break under it.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.funds.service import Movement, move_funds
from chappe_billing.grants.service import ask_grant, return_grant
from chappe_billing.usage.service import ingest
from chappe_kernel.errors import ChappeError, Invalid, NotFound
from chappe_kernel.ids import TenantId
from chappe_kernel.rating import Outcome
from chappe_kernel.wire import control as wire
from tests.billing.conftest import TERMS
from tests.money.books import Books, Bounds, Cap, Instruction, Lease, Purse
from tests.money.cells import Caller, Ending, Gateway, Running, Spooled
from tests.money.cut import BROKEN
from tests.money.moved_clock import id_at
from tests.money.stage import FUNDS, LIMIT, Stage

T = TypeVar("T")

_SNAPSHOT_MAX_AGE_S = 300.0


class Lost(Exception):
    """No answer came. It may have been done: `committed`."""

    def __init__(self, *, committed: bool) -> None:
        super().__init__()
        self.committed = committed


class Play(RuleBasedStateMachine):
    stage: ClassVar[Stage]
    """Set by whoever runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.stage.begin()
        cast = self.stage.cast
        self.books = Books(cast.starts_at)
        for customer, funds, limit in zip(cast.customers, FUNDS, (0, LIMIT), strict=True):
            self.books.purses[customer.tenant_id] = Purse(funds, limit)
        for quota_id, (customer, key_id, amount) in cast.caps.items():
            self.books.caps[quota_id] = Cap(customer.tenant_id, key_id, amount)
        self.gateways = [
            Gateway(name, region, self.stage.view(region), epoch=self.stage.epoch())
            for name, region in (("gw-1", "fr-par"), ("gw-2", "fr-par"), ("gw-3", "de-fra"))
        ]
        self.gateway_of: dict[UUID, Gateway] = {}
        """By request."""
        self.settled: dict[UUID, wire.UsageEvent] = {}
        self.instructions: list[Instruction] = []
        self.granted: dict[UUID, int] = {}
        self.given_back: Counter[UUID] = Counter()
        """What gateways have told to return, whether anybody heard it, by grant."""
        self.minted = 0
        self.backup: Books | None = None
        self.committed_before: dict[UUID, int] = {}
        self.is_changed = True
        """Whether the database may be another than when all of it was checked."""

    def send_ask(self, data: st.DataObject, gateway: Gateway, caller: Caller, wanted: int, part: int) -> None:
        purpose = (caller.tenant_id, caller.budgets)
        fresh = wire.AskGrant(
            self.mint_id(gateway), caller.tenant_id, gateway.name, wanted, max(1, wanted // part), caller.budgets
        )
        ask, asked_at = gateway.unanswered.get(purpose, (fresh, self.monotonic()))
        gateway.unanswered[purpose] = ask, asked_at
        known = self.books.leases.get(ask.grant_id)
        self.tick()
        bounds = self.books.answer(ask) if known is None else Bounds(known.amount_nano, known.amount_nano)
        try:
            grant = self.send(data, lambda session: ask_grant(session, region=gateway.region, ask=ask, terms=TERMS))
        except Lost as lost:
            if lost.committed and known is None and bounds.refusal is None:
                self.note_lease(ask)
            return
        except ChappeError as error:
            assert error.code == bounds.refusal, f"refused with {error.code}, expected {bounds}"
            del gateway.unanswered[purpose]
            return
        assert bounds.refusal is None, f"lent, expected {bounds}"
        assert bounds.least_nano <= grant.amount_nano <= bounds.most_nano
        del gateway.unanswered[purpose]
        if known is None:
            self.note_lease(ask)
        gateway.take(purpose, grant, asked_at)

    def admit(self, gateway: Gateway, caller: Caller, bounds: tuple[int, int]) -> Running | None:
        if self.monotonic() - gateway.polled_at > _SNAPSHOT_MAX_AGE_S:
            self.take_prices(gateway)
        running = gateway.admit(self.mint_id(gateway), caller, bounds, self.books.now, self.monotonic())
        if running is not None:
            self.gateway_of[running.request_id] = gateway
        return running

    def send_batch(self, data: st.DataObject | None, gateway: Gateway, chosen: Sequence[Spooled]) -> None:
        events = tuple(spooled.event for spooled in chosen)
        self.tick()
        fresh, others = self.books.tell_apart(events)
        batch = wire.UsageBatch(gateway.name, events)
        receipt: wire.UsageReceipt | None = None
        try:
            receipt = self.send(data, lambda session: ingest(session, region=gateway.region, batch=batch))
        except Lost as lost:
            if not lost.committed:
                return
        rows = self.stage.rows(
            "SELECT request_id, amount_nano - written_off_nano AS paid FROM usage_event WHERE request_id = ANY($1)",
            [event.request_id for event in fresh],
        )
        self.books.post(fresh, {row["request_id"]: row["paid"] for row in rows})
        self.books.other_stories |= {(event.request_id, event) for event in others}
        if receipt is not None:
            assert (receipt.posted, receipt.disputed, receipt.quarantined) == (len(fresh), len(others), 0)
            for spooled in chosen:
                spooled.epoch = receipt.epoch
            gateway.saw_epoch(receipt.epoch)

    def send_return(self, data: st.DataObject, gateway: Gateway, grant_id: UUID, amount: int) -> bool:
        """Whether an answer came."""
        self.tick()
        self.given_back[grant_id] = max(self.given_back[grant_id], amount)
        try:
            self.send(
                data,
                lambda session: return_grant(session, region=gateway.region, grant_id=grant_id, returned_nano=amount),
            )
        except Lost as lost:
            if lost.committed:
                self.books.give_back(grant_id, amount)
            return False
        except NotFound:
            assert grant_id not in self.books.leases
            return True
        self.books.give_back(grant_id, amount)
        return True

    def send_movement(self, data: st.DataObject | None, asked: Instruction) -> None:
        if asked.payment is not None and asked.payment not in self.books.moved:
            # A restore has lost the payment, and nobody has told of it again yet.
            return
        self.tick()
        movement = Movement(
            kind=asked.kind,
            amount_nano=asked.amount_nano,
            reference=asked.reference,
            reason="asked for",
            payment=None if asked.payment is None else self.books.moved[asked.payment][1],
        )
        is_known = asked.reference in self.books.moved
        may_move = is_known or self.books.may_move(asked)
        try:
            moved = self.send(
                data, lambda session: move_funds(session, TenantId(asked.tenant_id), movement), as_operator=True
            )
        except Lost as lost:
            if lost.committed and may_move and not is_known:
                query = "SELECT id FROM ledger_transaction WHERE reference = $1"
                [(transaction_id,)] = self.stage.rows(query, asked.reference)
                self.books.move(asked, transaction_id)
            return
        except Invalid as error:
            assert (error.code, may_move) == ("amount_too_large", False)
            return
        assert (may_move, moved.repeated) == (True, is_known)
        if not is_known:
            self.books.move(asked, moved.transaction_id)

    def send(
        self, data: st.DataObject | None, work: Callable[[AsyncSession], Awaitable[T]], *, as_operator: bool = False
    ) -> T:
        """One transaction, as a region unless it is the operator, over a way that may break. Raises `Lost`."""
        self.is_changed = True
        cut = self.stage.cut
        kind = "sound" if data is None else data.draw(st.sampled_from(("sound", "sound", "cut", "lost commit")))
        if data is None or kind == "sound":
            return self.stage.transact(work, as_operator=as_operator)
        cut.arm(before=data.draw(st.integers(0, 30)) if kind == "cut" else None, loses_commit=kind == "lost commit")
        try:
            return self.stage.transact(work, as_operator=as_operator, cut=True)
        except BROKEN:
            if not cut.was_cut:
                raise
            raise Lost(committed=cut.committed) from None
        finally:
            cut.arm()

    def note_lease(self, ask: wire.AskGrant) -> None:
        [row] = self.stage.rows("SELECT * FROM budget_grant WHERE id = $1", ask.grant_id)
        now = self.books.now
        assert row["release_at"] == now + timedelta(seconds=TERMS.release_s)
        last_admitted = row["admit_until"] - timedelta(microseconds=1)
        assert (last_admitted.year, last_admitted.month) == (now.year, now.month)
        self.granted[ask.grant_id] = row["amount_nano"]
        self.books.leases[ask.grant_id] = Lease(ask, row["amount_nano"], row["release_at"])

    def note_settled(self, event: wire.UsageEvent) -> None:
        assert event.request_id not in self.settled
        self.settled[event.request_id] = event

    def draw_ending(self, data: st.DataObject, running: Running) -> Ending:
        outcome = data.draw(st.sampled_from(Outcome))
        prompt = data.draw(st.integers(0, running.max_prompt_tokens))
        generated = data.draw(st.integers(0, running.max_completion_tokens))
        delivered = generated if outcome is Outcome.COMPLETED else data.draw(st.integers(0, generated))
        return Ending(outcome, prompt, data.draw(st.integers(0, prompt)), generated, delivered)

    def draw_gateway(self, data: st.DataObject) -> Gateway:
        return data.draw(st.sampled_from(self.gateways), label="gateway")

    def draw_caller(self, data: st.DataObject) -> Caller:
        return data.draw(st.sampled_from(self.stage.cast.callers), label="caller")

    def take_prices(self, gateway: Gateway) -> None:
        gateway.view = self.stage.view(gateway.region)
        gateway.polled_at = self.monotonic()

    def mint_id(self, gateway: Gateway) -> UUID:
        """Of version 7, by the gateway's own clock."""
        self.minted += 1
        return id_at(self.books.now + gateway.wall_error, self.minted)

    def monotonic(self) -> float:
        return (self.books.now - self.stage.cast.starts_at).total_seconds()

    def tick(self) -> None:
        self.set_clock(self.books.now + timedelta(milliseconds=1))

    def set_clock(self, at: datetime) -> None:
        self.books.now = at
        self.stage.set_clock(at)
