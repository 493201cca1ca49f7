"""The page of disputed usage lists what waits, and what somebody decides there is done once and with its reason."""

import random

import msgspec
import pytest

from chappe_kernel.ids import new_id
from chappe_kernel.rating import Counts, Outcome, charge
from chappe_kernel.wire.control import UsageEvent
from chappe_tenants.operators.service import OperatorRole
from tests.console.world import CHAT, ConsoleWorld


@pytest.fixture
async def event(console: ConsoleWorld) -> UsageEvent:
    """A posted request."""
    customer = await console.tenant(f"Disputer {new_id()}")
    cell, rng = console.cell("fr-par"), random.Random(1)  # noqa: S311 -- traffic, no secrets
    facts, version = await cell.resolve(customer.keys["inference"]), (await cell.prices())[CHAT]
    assert facts is not None
    counts = Counts(100, 0, 50)
    amount = charge(version.price, Outcome.COMPLETED, counts)
    template = cell.random_event(facts, new_id(), CHAT, version, rng)
    posted = msgspec.structs.replace(
        template, outcome=Outcome.COMPLETED, counts=counts, amount_nano=amount, hold_nano=amount
    )
    assert (await cell.ship(posted)).posted == 1
    return posted


async def decide(console: ConsoleWorld, table: str, decision: str, reason: str = "looked at") -> str:
    """By the form of the one that waits; what the page says then."""
    page = await console.read("/console/disputes", OperatorRole.FINANCE)
    (form,) = page.by_id(table).all("form")
    visitor = await console.operator(OperatorRole.FINANCE)
    answer = await visitor.post(form.attributes["action"], reason=reason, decision=decision)
    assert answer.status_code == 303
    return (await visitor.get("/console/disputes")).text


async def test_a_discrepancy_is_given_back_from_the_page(console: ConsoleWorld, event: UsageEvent) -> None:
    (before,) = await console.sql("SELECT funds_nano FROM budget WHERE tenant_id = $1", event.tenant_id)
    fewer = Counts(100, 0, 10)
    price = (await console.cell("fr-par").prices())[CHAT].price
    cheaper = msgspec.structs.replace(event, counts=fewer, amount_nano=charge(price, event.outcome, fewer))
    assert (await console.cell("fr-par").ship(cheaper)).disputed == 1
    assert "Say why" in await decide(console, "discrepancies-table", "correct", reason=" ")
    assert "The discrepancy is resolved." in await decide(console, "discrepancies-table", "correct")
    (after,) = await console.sql("SELECT funds_nano FROM budget WHERE tenant_id = $1", event.tenant_id)
    assert after[0] - before[0] == event.amount_nano - cheaper.amount_nano
    assert "The witnesses agree" in (await console.read("/console/disputes")).text


async def test_an_event_in_quarantine_is_written_off_from_the_page(console: ConsoleWorld, event: UsageEvent) -> None:
    lost = msgspec.structs.replace(event, request_id=new_id(), key_id=new_id())
    assert (await console.cell("fr-par").ship(lost)).quarantined == 1
    assert "It still cannot be posted" in await decide(console, "quarantine-table", "accept")
    assert "The event is decided about." in await decide(console, "quarantine-table", "write_off")
    decided = await console.sql(
        "SELECT decision, amount_nano, reason FROM usage_quarantine_decision WHERE request_id = $1", lost.request_id
    )
    assert decided == [("written_off", lost.amount_nano, "looked at")]
    assert "Everything is posted" in (await console.read("/console/disputes")).text


async def test_an_auditor_sees_the_queue_without_forms(console: ConsoleWorld, event: UsageEvent) -> None:
    lost = msgspec.structs.replace(event, request_id=new_id(), key_id=new_id())
    await console.cell("fr-par").ship(lost)
    page = await console.read("/console/disputes", OperatorRole.AUDITOR)
    assert page.by_id("quarantine-table").all("form") == []
    await decide(console, "quarantine-table", "write_off")
