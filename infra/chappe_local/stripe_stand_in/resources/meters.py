"""Meters and what is told to them."""

import re
from decimal import Decimal
from typing import Final

from chappe_local.stripe_stand_in.errors import Json, invalid
from chappe_local.stripe_stand_in.listing import list_object, page
from chappe_local.stripe_stand_in.parameters import PAGE, Spec, fields, integer, name, one_of, texts
from chappe_local.stripe_stand_in.resources.common import change
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id

_OLDEST_S: Final = 35 * 86_400
_FUTURE_S: Final = 5 * 60
_UNIQUE_S: Final = 24 * 3600
_MINUTE_S: Final = 60
_WINDOWS: Final = {"day": 86_400, "hour": 3600}
_DECIMAL: Final = re.compile(r"-?\d{1,15}(\.\d{1,12})?")


def create(world: World, params: Json) -> Json:
    if _find(world, params["event_name"]) is not None:
        raise invalid(
            f"A meter with the event_name {params['event_name']} already exists.", code="resource_already_exists"
        )
    mapping = params.get("customer_mapping") or {"event_payload_key": "stripe_customer_id", "type": "by_id"}
    return world.save(
        {
            "id": new_id("mtr"),
            "object": "billing.meter",
            "created": world.now,
            "customer_mapping": mapping,
            "default_aggregation": params["default_aggregation"],
            "display_name": params["display_name"],
            "event_name": params["event_name"],
            "event_time_window": params.get("event_time_window"),
            "livemode": False,
            "status": "active",
            "status_transitions": {"deactivated_at": None},
            "updated": world.now,
            "value_settings": params.get("value_settings") or {"event_payload_key": "value"},
        }
    )


def retrieve(world: World, _params: Json, meter_id: str) -> Json:
    return world.get("billing.meter", meter_id)


def update(world: World, params: Json, meter_id: str) -> Json:
    return change(world, world.get("billing.meter", meter_id), {**params, "updated": world.now})


def list_all(world: World, params: Json) -> Json:
    return page(world, "billing.meter", "/v1/billing/meters", params, {"status": params.get("status")})


def record(world: World, params: Json) -> Json:
    """One meter event. An identifier that was used within a day is refused."""
    meter = _find(world, params["event_name"])
    if meter is None:
        raise invalid(f"No active meter found for event name {params['event_name']}.", param="event_name")
    at = params.get("timestamp", world.now)
    if not world.now - _OLDEST_S <= at <= world.now + _FUTURE_S:
        raise invalid("The timestamp must be within the past 35 days and at most 5 minutes ahead.", param="timestamp")
    customer, value = _payload(world, meter, params["payload"])
    identifier = params.get("identifier") or new_id("auto")
    conditions = [("identifier", "=", identifier), ("created", ">", world.now - _UNIQUE_S)]
    if world.store.select("billing.meter_event", conditions, limit=1):
        raise invalid(f"An event already exists with identifier {identifier}.", param="identifier")
    event = {
        "object": "billing.meter_event",
        "created": world.now,
        "event_name": params["event_name"],
        "identifier": identifier,
        "livemode": False,
        "payload": params["payload"],
        "timestamp": at,
    }
    world.save({**event, "id": new_id("mevt"), "customer": customer, "_value": str(value)})
    return event


def summaries(world: World, params: Json, meter_id: str) -> Json:
    """Sums or counts of a customer's events from `start_time` to before `end_time`; by hour or day if asked."""
    meter = world.get("billing.meter", meter_id)
    start, end = params["start_time"], params["end_time"]
    window = _WINDOWS.get(params.get("value_grouping_window", ""), end - start)
    unit = window if "value_grouping_window" in params else _MINUTE_S
    if start >= end or start % unit or end % unit:
        raise invalid("start_time and end_time must be on the boundaries of the window.", param="start_time")
    bounds = [("timestamp", ">=", start), ("timestamp", "<", end)]
    conditions = [("customer", "=", params["customer"]), ("event_name", "=", meter["event_name"]), *bounds]
    sums: dict[int, Decimal] = {}
    for event in world.store.select("billing.meter_event", conditions):
        first = start + (event["timestamp"] - start) // window * window
        counted = 1 if meter["default_aggregation"]["formula"] == "count" else Decimal(event["_value"])
        sums[first] = sums.get(first, Decimal(0)) + counted
    found = [
        {
            "id": f"mtrusum_{meter_id}_{first}",
            "object": "billing.meter_event_summary",
            "aggregated_value": float(value),
            "end_time": first + window,
            "livemode": False,
            "meter": meter_id,
            "start_time": first,
        }
        for first, value in sorted(sums.items(), reverse=True)
    ]
    return list_object(found, f"/v1/billing/meters/{meter_id}/event_summaries")


def _find(world: World, event_name: str) -> Json | None:
    found = world.store.select("billing.meter", [("event_name", "=", event_name), ("status", "=", "active")], limit=1)
    return found[0] if found else None


def _payload(world: World, meter: Json, payload: dict[str, str]) -> tuple[str, Decimal]:
    customer_key = meter["customer_mapping"]["event_payload_key"]
    value_key = meter["value_settings"]["event_payload_key"]
    if customer_key not in payload:
        raise invalid(f"Missing required payload key: {customer_key}.", param="payload")
    world.get("customer", payload[customer_key], f"payload[{customer_key}]")
    if not _DECIMAL.fullmatch(payload.get(value_key, "")):
        raise invalid(f"The payload's {value_key} must be a number.", param=f"payload[{value_key}]")
    return payload[customer_key], Decimal(payload[value_key])


_CREATE: Final[dict[str, Spec]] = {
    "customer_mapping": fields(("event_payload_key", "type"), event_payload_key=name, type=one_of("by_id")),
    "default_aggregation": fields(("formula",), formula=one_of("count", "sum")),
    "display_name": name,
    "event_name": name,
    "event_time_window": one_of("day", "hour"),
    "value_settings": fields(("event_payload_key",), event_payload_key=name),
}
_EVENT: Final[dict[str, Spec]] = {"event_name": name, "identifier": name, "payload": texts, "timestamp": integer}
_SUMMARIES: Final[dict[str, Spec]] = {
    **PAGE,
    "customer": name,
    "end_time": integer,
    "start_time": integer,
    "value_grouping_window": one_of("day", "hour"),
}
ROUTES: Final = (
    Route("POST", "/v1/billing/meters", create, _CREATE, ("default_aggregation", "display_name", "event_name")),
    Route("GET", "/v1/billing/meters", list_all, {**PAGE, "status": one_of("active", "inactive")}),
    Route("GET", "/v1/billing/meters/{id}", retrieve),
    Route("POST", "/v1/billing/meters/{id}", update, {"display_name": name}),
    Route(
        "GET",
        "/v1/billing/meters/{id}/event_summaries",
        summaries,
        _SUMMARIES,
        ("customer", "end_time", "start_time"),
    ),
    Route("POST", "/v1/billing/meter_events", record, _EVENT, ("event_name", "payload")),
)
