"""What must be true of every request once the dust has settled, and what was lost of what was generated.

    generated = charged + waived + lost

`generated` is what engines really made (`replica.py` writes it down), `charged` what the posted events say, `lost` what
nobody could know of any more, because an engine died before it reported it; the rest was waived by the outcome table.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct

from chappe_kernel.ids import REQUEST, decode_id
from chappe_kernel.wire.engine import EngineRecord
from tests.chaos.load import Seen
from tests.chaos.replica import Token
from tests.control.world import PRICE

EVENTS = """
SELECT request_id, tenant_id, outcome, prompt_tokens, cached_tokens, completion_tokens, amount_nano, written_off_nano,
       hold_nano, delivered_tokens, generated_tokens, settled_by, project_id, idempotency_digest, repeats
FROM usage_event
"""
BUDGETS = "SELECT tenant_id, funds_nano, posted_nano, pending_nano, credit_limit_nano FROM budget"


class Sums(Struct):
    """Tokens. `longest_loss_s` is over how long a time one attempt generated tokens that nobody knows of."""

    requests: int = 0
    generated: int = 0
    charged: int = 0
    waived: int = 0
    lost: int = 0
    longest_loss_s: float = 0.0


def check_books(
    truth: Sequence[Token],
    reports: Mapping[UUID, Mapping[int, EngineRecord]],
    events: Sequence[Mapping[str, Any]],
    seen: Sequence[Seen],
) -> Sums:
    """Raises `AssertionError` for the first request whose charge is not as it must be."""
    by_request = {event["request_id"]: event for event in events}
    assert len(by_request) == len(events)
    made: defaultdict[UUID, dict[int, list[Token]]] = defaultdict(lambda: defaultdict(list))
    for token in truth:
        made[decode_id(REQUEST, token.request_id)][token.attempt].append(token)
    sums = Sums(requests=len(by_request))
    for request_id in set(made) | set(reports) | set(by_request):
        _check_request(request_id, made[request_id], reports.get(request_id, {}), by_request.get(request_id), sums)
    for one in seen:
        _check_client(one, by_request)
    once = [(event["project_id"], event["idempotency_digest"]) for event in events if event["repeats"] is None]
    asked_once = [key for key in once if key[1] is not None]
    assert len(asked_once) == len(set(asked_once)), "one Idempotency-Key is charged twice"
    assert sums.generated == sums.charged + sums.waived + sums.lost
    return sums


def check_budgets(budgets: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> None:
    """Everything that was held has come back, and nobody has spent what they did not have."""
    paid: defaultdict[UUID, int] = defaultdict(int)
    for event in events:
        paid[event["tenant_id"]] += event["amount_nano"] - event["written_off_nano"]
    for budget in budgets:
        assert budget["posted_nano"] == paid[budget["tenant_id"]], budget
        assert budget["posted_nano"] <= budget["funds_nano"] + budget["credit_limit_nano"], budget


def _check_request(
    request_id: UUID,
    made: Mapping[int, Sequence[Token]],
    reports: Mapping[int, EngineRecord],
    event: Mapping[str, Any] | None,
    sums: Sums,
) -> None:
    story = (request_id, event, reports, {attempt: len(tokens) for attempt, tokens in made.items()})
    # Whatever an engine durably reported has its event.
    assert event is not None or not reports, story
    generated = sum(len(tokens) for tokens in made.values())
    charged = 0 if event is None else event["completion_tokens"]
    known = sum(report.counts.completion_tokens for report in reports.values())
    sums.generated += generated
    sums.charged += charged
    # A gateway has seen in band what its engine had no time to report.
    known = max(known, charged)
    sums.waived += known - charged
    sums.lost += generated - known
    assert charged <= generated, story
    assert known <= generated, story
    for attempt, tokens in made.items():
        reported = reports[attempt].counts.completion_tokens if attempt in reports else 0
        unknown = tokens[max(reported, charged) :]
        if unknown:
            sums.longest_loss_s = max(sums.longest_loss_s, unknown[-1].at - unknown[0].at)
            assert attempt not in reports or reports[attempt].end is None, story
    if event is not None:
        _check_amount(event, story)


def _check_amount(event: Mapping[str, Any], story: object) -> None:
    cost = (
        (event["prompt_tokens"] - event["cached_tokens"]) * PRICE.input_nano_per_token
        + event["cached_tokens"] * PRICE.cached_input_nano_per_token
        + event["completion_tokens"] * PRICE.output_nano_per_token
    )
    assert event["amount_nano"] in {cost, 0}, story
    assert event["amount_nano"] <= event["hold_nano"], story
    if event["settled_by"] == "engine":
        assert event["outcome"] != "completed", story
    if event["outcome"] == "failed" and event["delivered_tokens"] is not None:
        assert event["completion_tokens"] <= event["delivered_tokens"], story


def _check_client(seen: Seen, by_request: Mapping[UUID, Mapping[str, Any]]) -> None:
    if seen.request_id is None or seen.replayed:
        return
    event = by_request.get(seen.request_id)
    if seen.whole:
        # Its event was on disk before its last byte went out, whoever died afterwards.
        assert event is not None, seen
        assert event["outcome"] == "completed", (seen, event)
        assert event["completion_tokens"] == seen.delivered, (seen, event)
    elif seen.status >= 500:
        assert event is None or event["amount_nano"] == 0, (seen, event)
