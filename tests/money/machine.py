"""Everything that moves money, in any order, against a model; after each step every invariant of money's design.

Gateways lease, hold, settle, die, ship late, twice and in any order; answers and connections get lost in the middle of
a transaction; money is paid in and taken back; prices and credit limits change; months end; the database is restored
from a backup.
"""

import copy
from collections import Counter
from datetime import timedelta
from uuid import UUID

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from chappe_billing.credit.service import set_credit_limit
from chappe_billing.discrepancies.queries import list_discrepancies
from chappe_billing.discrepancies.service import resolve_discrepancy
from chappe_billing.ledger.postings import TransactionKind
from chappe_billing.prices.service import publish_price
from chappe_kernel.errors import ChappeError, Invalid
from chappe_kernel.ids import TenantId
from chappe_kernel.rating import NO_COUNTS, Outcome, Price
from tests.billing.conftest import TERMS
from tests.money.books import Instruction
from tests.money.cells import Ending, Spooled
from tests.money.play import Play
from tests.money.sums import assert_whole

_AMOUNTS = st.integers(1, 100_000)
_PROMPTS, _OUTPUTS = st.integers(0, 200), st.integers(1, 100)
_WAITS = (0.1, 20.0, 31.0, 120.0, 181.0, 210.0, 700.0, 86_400.0 * 31)
_KINDS = (
    *(TransactionKind.TOP_UP, TransactionKind.REFUND),
    *(TransactionKind.CHARGEBACK, TransactionKind.GOODWILL_CREDIT),
)
_ERRORS = tuple(timedelta(minutes=minutes) for minutes in (-10, 0, 10))


class Money(Play):
    # What gateways do.

    @rule(data=st.data(), wanted=_AMOUNTS, part=st.integers(1, 4))
    def lease(self, data: st.DataObject, wanted: int, part: int) -> None:
        self.send_ask(data, self.draw_gateway(data), self.draw_caller(data), wanted, part)

    @rule(data=st.data(), wanted=_AMOUNTS, part=st.integers(1, 4))
    def all_lease_for_one(self, data: st.DataObject, wanted: int, part: int) -> None:
        """As when a caller's requests go to every gateway at once: together they ask for more than a budget has."""
        caller = self.draw_caller(data)
        for gateway in self.gateways:
            self.send_ask(data, gateway, caller, wanted, part)

    @rule(data=st.data(), requests=st.integers(1, 4))
    def serve(self, data: st.DataObject, requests: int) -> None:
        """Requests that come one after another, each leasing what it lacks; some are still running at the end."""
        gateway, caller = self.draw_gateway(data), self.draw_caller(data)
        for _ in range(requests):
            bounds = data.draw(st.tuples(_PROMPTS, _OUTPUTS))
            running = self.admit(gateway, caller, bounds)
            if running is None:
                self.send_ask(data, gateway, caller, data.draw(_AMOUNTS), 1)
                running = self.admit(gateway, caller, bounds)
            if running is not None and data.draw(st.booleans()):
                gateway.settle(running, self.draw_ending(data, running), self.monotonic())
                self.note_settled(gateway.spool[-1].event)

    @precondition(lambda self: any(gateway.running for gateway in self.gateways))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        gateway = data.draw(st.sampled_from([gateway for gateway in self.gateways if gateway.running]))
        running = data.draw(st.sampled_from(gateway.running))
        gateway.settle(running, self.draw_ending(data, running), self.monotonic())
        self.note_settled(gateway.spool[-1].event)

    @precondition(lambda self: any(gateway.spool for gateway in self.gateways))
    @rule(data=st.data())
    def ship(self, data: st.DataObject) -> None:
        """Some of a spool, in any order, some of it once more though it was acknowledged, some of it twice."""
        gateway = data.draw(st.sampled_from([gateway for gateway in self.gateways if gateway.spool]))
        chosen = data.draw(st.lists(st.sampled_from(gateway.spool), min_size=1, max_size=6))
        self.send_batch(data, gateway, chosen)

    @precondition(lambda self: any(gateway.unshipped() for gateway in self.gateways))
    @rule(data=st.data())
    def ship_all(self, data: st.DataObject) -> None:
        gateway = data.draw(st.sampled_from([gateway for gateway in self.gateways if gateway.unshipped()]))
        self.send_batch(data, gateway, gateway.unshipped())

    @precondition(lambda self: any(gateway.books for gateway in self.gateways))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """What is due; the gateway tells it again until it hears that it was heard."""
        gateway = self.draw_gateway(data)
        for book in gateway.books.values():
            book.retire_due(self.monotonic())
            for grant_id, (amount, _) in list(book.due_returns.items()):
                if self.send_return(data, gateway, grant_id, amount):
                    del book.due_returns[grant_id]

    @rule(data=st.data(), wanted=st.integers(10_000, 100_000), prompt=_PROMPTS)
    def give_back_beside_what_runs(self, data: st.DataObject, wanted: int, prompt: int) -> None:
        """A part of each grant, told twice: the first answer was lost on its way, or seemed so."""
        gateway, caller = self.draw_gateway(data), self.draw_caller(data)
        self.send_ask(data, gateway, caller, wanted, wanted)
        self.admit(gateway, caller, (prompt, 1))
        for book in gateway.books.values():
            book.retire_all()
            for grant_id, (amount, _) in list(book.due_returns.items()):
                self.send_return(data, gateway, grant_id, amount)
                self.send_return(data, gateway, grant_id, amount)

    @precondition(lambda self: self.books.leases)
    @rule(data=st.data(), part=st.integers(0, 3))
    def repeat_an_old_return(self, data: st.DataObject, part: int) -> None:
        """A copy of it that was delayed on its way: less than what has been returned since."""
        lease = data.draw(st.sampled_from(list(self.books.leases.values())))
        [gateway] = [gateway for gateway in self.gateways if gateway.name == lease.ask.gateway]
        self.send_return(data, gateway, lease.ask.grant_id, lease.returned_nano * part // 3)

    @precondition(lambda self: any(gateway.books for gateway in self.gateways))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Everything that is not held goes back."""
        for book in self.draw_gateway(data).books.values():
            book.retire_all()

    @precondition(lambda self: any(gateway.books for gateway in self.gateways))
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        gateway = self.draw_gateway(data)
        endings = [self.draw_ending(data, running) for running in gateway.running]
        settled = len(gateway.spool)
        gateway.die(gateway, endings, self.monotonic())
        for spooled in gateway.spool[settled:]:
            self.note_settled(spooled.event)

    @rule(data=st.data(), error=st.sampled_from(_ERRORS))
    def poll(self, data: st.DataObject, error: timedelta) -> None:
        """The newest prices; and somebody sets the machine's clock, wrong or right, perhaps back."""
        gateway = self.draw_gateway(data)
        self.take_prices(gateway)
        gateway.wall_error = error

    # What happens to everybody.

    @rule(seconds=st.sampled_from(_WAITS))
    def wait(self, seconds: float) -> None:
        self.set_clock(self.books.now + timedelta(seconds=seconds))

    @rule(output=st.integers(0, 400), data=st.data())
    def publish_a_price(self, output: int, data: st.DataObject) -> None:
        region = data.draw(st.sampled_from(("fr-par", "de-fra")))
        price = Price(60, 15, output, 7)
        self.is_changed = True
        try:
            self.stage.operating(
                lambda session: publish_price(
                    session,
                    listing_id=self.stage.cast.market.listing_id,
                    region=region,
                    currency="EUR",
                    price=price,
                )
            )
        except ChappeError as error:
            assert error.code == "price_scheduled"

    @rule(data=st.data(), kind=st.sampled_from(_KINDS), amount=st.integers(1, 60_000))
    def move_funds(self, data: st.DataObject, kind: TransactionKind, amount: int) -> None:
        """Paid in, paid out, given, or taken back by a bank, perhaps after it was spent."""
        tenant_id = data.draw(st.sampled_from(self.stage.cast.customers)).tenant_id
        payment = None
        if kind is TransactionKind.CHARGEBACK:
            moved = [asked for asked, _ in self.books.moved.values() if asked.tenant_id == tenant_id]
            payments = [asked.reference for asked in moved if asked.kind is TransactionKind.TOP_UP]
            if not payments:
                return
            payment = data.draw(st.sampled_from(payments))
        asked = Instruction(tenant_id, kind, amount, f"movement {len(self.instructions)}", payment)
        self.instructions.append(asked)
        self.send_movement(data, asked)

    @precondition(lambda self: self.instructions)
    @rule(data=st.data())
    def move_funds_again(self, data: st.DataObject) -> None:
        """Whoever got no answer asks again; so do banks' files that are read twice."""
        self.send_movement(data, data.draw(st.sampled_from(self.instructions)))

    @rule(limit=st.integers(0, 80_000))
    def change_the_credit_limit(self, limit: int) -> None:
        tenant_id = self.stage.cast.customers[1].tenant_id
        self.stage.operating(lambda session: set_credit_limit(session, TenantId(tenant_id), limit, "EUR"))
        self.books.purses[tenant_id].limit_nano = limit
        self.is_changed = True

    @precondition(lambda self: self.books.posted)
    @rule(data=st.data())
    def tell_another_story(self, data: st.DataObject) -> None:
        """A witness that comes later: of a posted request, with other counts."""
        known = data.draw(st.sampled_from(list(self.books.posted.values())))
        other = msgspec.structs.replace(known, outcome=Outcome.DISCONNECTED, counts=NO_COUNTS, amount_nano=0)
        self.send_batch(data, self.gateway_of[known.request_id], [Spooled(other)])

    @precondition(lambda self: self.books.other_stories)
    @rule(data=st.data())
    def resolve(self, data: st.DataObject) -> None:
        [*found] = self.stage.operating(lambda session: list_discrepancies(session, resolved=False, limit=100))
        if not found:
            return
        one = data.draw(st.sampled_from(sorted(found, key=lambda row: row.id)))
        story = next(
            event
            for key, event in self.books.other_stories
            if key == one.request_id and event.amount_nano == one.amount_nano
        )
        given_back = self.books.correct(story)
        self.is_changed = True
        try:
            done = self.stage.operating(
                lambda session: resolve_discrepancy(session, one.id, reason="looked", correct=True)
            )
        except Invalid:
            done = 0
        assert done == given_back

    @precondition(lambda self: self.books.posted and (not self.backup or self.backup.posted != self.books.posted))
    @rule()
    def back_up(self) -> None:
        self.stage.back_up()
        self.backup = copy.deepcopy(self.books)

    @precondition(lambda self: self.backup and self.backup.posted != self.books.posted)
    @rule()
    def restore(self) -> None:
        assert self.backup is not None
        now = self.books.now
        self.books = copy.deepcopy(self.backup)
        self.books.now = now
        self.stage.restore()
        self.committed_before = {}
        self.is_changed = True

    # What must hold after each of them.

    @invariant()
    def books_agree(self) -> None:
        now = self.books.now
        pending: Counter[UUID] = Counter()
        for row in self.stage.rows("SELECT * FROM budget_grant WHERE released_at IS NULL AND release_at > $1", now):
            pending[row["tenant_id"]] += row["amount_nano"] - row["returned_nano"] - row["posted_nano"]
        for row in self.stage.rows("SELECT * FROM budget"):
            purse = self.books.purses[row["tenant_id"]]
            assert (row["funds_nano"], row["credit_limit_nano"]) == (purse.funds_nano, purse.limit_nano)
            assert row["posted_nano"] == purse.posted_nano
            assert pending[row["tenant_id"]] == self.books.pending_nano(row["tenant_id"])
        if self.is_changed:
            self._assert_events()
            self.stage.run(assert_whole(self.stage.superuser, self.stage.database))
            self.is_changed = False

    def _assert_events(self) -> None:
        posted = {row["request_id"]: row for row in self.stage.rows("SELECT * FROM usage_event")}
        assert posted.keys() == self.books.posted.keys()
        for request_id, row in posted.items():
            event = self.books.posted[request_id]
            assert (row["amount_nano"], row["price_version_id"]) == (event.amount_nano, event.price_version)
            assert row["amount_nano"] - row["written_off_nano"] == self.books.paid[request_id]
            assert event.generated is not None
            waived = row["generated_tokens"] - row["completion_tokens"]
            assert (row["completion_tokens"], waived) == (
                event.counts.completion_tokens,
                event.generated.completion_tokens - event.counts.completion_tokens,
            )
        assert self.stage.rows("SELECT * FROM usage_quarantine") == []

    @invariant()
    def no_grant_is_overdrawn(self) -> None:
        """What runs, what was charged and what was given back fit into each grant, by the gateways' own accounts."""
        used: Counter[UUID] = Counter()
        for gateway in self.gateways:
            for running in gateway.running:
                used[running.hold.grant.grant_id] += running.hold.amount_nano
            for book in gateway.books.values():
                for grant_id, (returned, _) in book.due_returns.items():
                    used[grant_id] += max(0, returned - self.given_back[grant_id])
        used.update(self.given_back)
        for event in self.settled.values():
            used[event.grant_id] += event.amount_nano
        assert all(amount <= self.granted[grant_id] for grant_id, amount in used.items())

    @invariant()
    def nothing_increases_past_what_there_is(self) -> None:
        for tenant_id, purse in self.books.purses.items():
            committed = purse.posted_nano + self.books.pending_nano(tenant_id)
            if committed > self.committed_before.get(tenant_id, 0):
                assert committed <= purse.funds_nano + purse.limit_nano
            self.committed_before[tenant_id] = committed

    def teardown(self) -> None:
        """Everything settles, everything arrives, every grant ends: then all money is accounted for."""
        for gateway in self.gateways:
            for running in list(gateway.running):
                ending = Ending(Outcome.COMPLETED, running.max_prompt_tokens, 0, 1, 1)
                gateway.settle(running, ending, self.monotonic())
                self.note_settled(gateway.spool[-1].event)
            gateway.saw_epoch(self.stage.epoch())
            self.send_batch(None, gateway, gateway.unshipped())
        assert self.books.posted == self.settled, "what was settled is posted, once"
        for asked in self.instructions:
            self.send_movement(None, asked)
        self.set_clock(self.books.now + timedelta(seconds=TERMS.release_s))
        for tenant_id, purse in self.books.purses.items():
            balance = self.stage.balance(tenant_id)
            assert (balance.pending_nano, balance.credit_limit_nano) == (0, purse.limit_nano)
            assert balance.available_nano == purse.funds_nano - purse.posted_nano
            charged = sum(event.amount_nano for event in self.settled.values() if event.tenant_id == tenant_id)
            assert charged == purse.posted_nano + purse.written_off_nano
        self.books_agree()
