"""A decision about quarantined usage through the API is one transaction, in the name of who decided, whatever ends in
between."""

import secrets

import httpx
import msgspec
import pytest

from chappe_control.idempotency import queries as idempotency
from chappe_kernel.ids import REQUEST, encode_id, new_id
from chappe_kernel.wire.control import UsageEvent
from chappe_tenants.operators.service import OperatorRole
from tests.console.test_disputes import event
from tests.console.world import ConsoleWorld, address_of

__all__ = ["event"]


class Crashed(RuntimeError):
    """The process is gone: nothing after it happens."""


async def lost_event(console: ConsoleWorld, event: UsageEvent) -> UsageEvent:
    lost = msgspec.structs.replace(event, request_id=new_id(), key_id=new_id())
    assert (await console.cell("fr-par").ship(lost)).quarantined == 1
    return lost


async def decide(console: ConsoleWorld, lost: UsageEvent, key: str) -> httpx.Response:
    visitor = await console.operator(OperatorRole.FINANCE)
    ((digest,),) = await console.sql(
        "SELECT encode(digest, 'hex') FROM usage_quarantine WHERE request_id = $1", lost.request_id
    )
    path = f"/api/v1/operator/quarantine/{encode_id(REQUEST, lost.request_id)}/{digest}/decision"
    headers = {"origin": visitor.portal_url, "accept": "application/json", "idempotency-key": key}
    return await visitor.request("POST", path, headers=headers, json={"decision": "write_off", "reason": "lost"})


async def left_of(console: ConsoleWorld, lost: UsageEvent) -> tuple[int, int]:
    """Decisions, and postings of them."""
    ((decisions,),) = await console.sql(
        "SELECT count(*) FROM usage_quarantine_decision WHERE request_id = $1", lost.request_id
    )
    ((postings,),) = await console.sql(
        "SELECT count(*) FROM ledger_transaction t WHERE t.kind = 'write_off' AND t.id IN "
        "(SELECT transaction_id FROM usage_quarantine_decision WHERE request_id = $1)",
        lost.request_id,
    )
    return decisions, postings


async def test_a_crash_between_posting_and_answering_leaves_nothing_and_the_repeat_decides(
    console: ConsoleWorld, event: UsageEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, key = await lost_event(console, event), secrets.token_hex(8)
    ((before,),) = await console.sql("SELECT count(*) FROM ledger_transaction")

    async def crash(*_: object, **__: object) -> None:
        raise Crashed

    with monkeypatch.context() as patched:
        patched.setattr(idempotency, "keep_answer", crash)
        assert (await decide(console, lost, key)).status_code == 500
    assert await left_of(console, lost) == (0, 0)
    assert await console.sql("SELECT count(*) FROM ledger_transaction") == [(before,)]
    first, again = await decide(console, lost, key), await decide(console, lost, key)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert first.json()["decision"] == "written_off"
    assert await left_of(console, lost) == (1, 1)


async def test_the_audit_log_names_who_decided(console: ConsoleWorld, event: UsageEvent) -> None:
    lost = await lost_event(console, event)
    assert (await decide(console, lost, secrets.token_hex(8))).status_code == 201
    ((user_id,),) = await console.sql("SELECT id FROM operator_user WHERE email = $1", address_of(OperatorRole.FINANCE))
    found = await console.sql(
        "SELECT noun, actor_kind, actor FROM audit_entry WHERE request_id = "
        "(SELECT request_id FROM audit_entry WHERE noun = 'usage_quarantine_decision' AND subject = $1)",
        str(lost.request_id),
    )
    assert {"ledger_transaction", "usage_quarantine_decision"} <= {noun for noun, _, _ in found}
    assert {actor for _, _, actor in found} == {str(user_id)}
    assert {kind for _, kind, _ in found} == {"operator_user"}
