"""Events and the endpoints that they are sent to."""

from typing import Final
from urllib.parse import urlsplit

from chappe_local.stripe_stand_in.errors import Json, invalid
from chappe_local.stripe_stand_in.listing import page
from chappe_local.stripe_stand_in.parameters import (
    PAGE,
    Spec,
    created_range,
    flag,
    items,
    metadata,
    name,
    one_of,
    text,
)
from chappe_local.stripe_stand_in.resources.common import change, new_metadata
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import API_VERSION, Endpoint, World, new_id, random_text

_KEPT_S: Final = 30 * 86_400
_MOST_TYPES: Final = 20
CONFIGURED: Final = "we_configured"
"""How the ids of endpoints begin that the configuration names: they follow it over restarts."""


def retrieve(world: World, _params: Json, event_id: str) -> Json:
    return _counted(world, world.get("event", event_id))


def list_all(world: World, params: Json) -> Json:
    """Those of the last thirty days, as with Stripe; by one type, by several, or by all of a kind (`invoice.*`)."""
    types = params.get("types", [])
    if len(types) > _MOST_TYPES:
        raise invalid(f"At most {_MOST_TYPES} types can be asked for.", param="types")
    wanted = {**params, "created": {"gte": world.now - _KEPT_S, **params.get("created", {})}}
    conditions: list[tuple[str, str, object]] = [("type", "IN", types)] if types else []
    if "type" in params:
        conditions.append(("type", "GLOB", params["type"]))
    found = page(world, "event", "/v1/events", wanted, conditions=conditions)
    return {**found, "data": [_counted(world, one) for one in found["data"]]}


def configure(world: World, endpoints: tuple[Endpoint, ...]) -> None:
    """Make the configured endpoints the ones that are: called at each start."""
    for old in world.store.select("webhook_endpoint"):
        if old["id"].startswith(CONFIGURED):
            world.save({**old, "status": "disabled"})
    for endpoint_id, endpoint in configured(endpoints).items():
        world.save(_new(world, endpoint_id, endpoint.url, list(endpoint.events)))


def configured(endpoints: tuple[Endpoint, ...]) -> dict[str, Endpoint]:
    """By id. Their secrets stay in the configuration: nothing writes them down a second time."""
    return {f"{CONFIGURED}_{number}": endpoint for number, endpoint in enumerate(endpoints)}


def create_endpoint(world: World, params: Json) -> Json:
    _check_url(params["url"])
    secret = f"whsec_{random_text(32)}"
    endpoint = _new(world, new_id("we"), params["url"], params["enabled_events"])
    endpoint |= {"description": params.get("description"), "metadata": new_metadata(params), "_secret": secret}
    world.save(endpoint)
    # Told once, at creation.
    return {**endpoint, "secret": secret}


def retrieve_endpoint(world: World, _params: Json, endpoint_id: str) -> Json:
    return world.get("webhook_endpoint", endpoint_id)


def update_endpoint(world: World, params: Json, endpoint_id: str) -> Json:
    given = {key: value for key, value in params.items() if key != "disabled"}
    if "url" in given:
        _check_url(given["url"])
    if "disabled" in params:
        given["status"] = "disabled" if params["disabled"] else "enabled"
    return change(world, world.get("webhook_endpoint", endpoint_id), given)


def delete_endpoint(world: World, _params: Json, endpoint_id: str) -> Json:
    endpoint = world.get("webhook_endpoint", endpoint_id)
    world.save({**endpoint, "deleted": True, "status": "disabled"})
    return {"id": endpoint_id, "object": "webhook_endpoint", "deleted": True}


def list_endpoints(world: World, params: Json) -> Json:
    return page(world, "webhook_endpoint", "/v1/webhook_endpoints", params, {"status": "enabled"})


def _counted(world: World, event: Json) -> Json:
    return {**event, "pending_webhooks": world.store.waiting_for(event["id"])}


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid("Invalid URL", param="url", code="url_invalid")


def _new(world: World, endpoint_id: str, url: str, events: list[str]) -> Json:
    return {
        "id": endpoint_id,
        "object": "webhook_endpoint",
        "api_version": API_VERSION,
        "application": None,
        "created": world.now,
        "description": None,
        "enabled_events": events,
        "livemode": False,
        "metadata": {},
        "status": "enabled",
        "url": url,
    }


_ENDPOINT: Final[dict[str, Spec]] = {
    "description": text,
    "enabled_events": items(name),
    "metadata": metadata,
    "url": name,
}
ROUTES: Final = (
    Route("GET", "/v1/events", list_all, {**PAGE, "created": created_range, "type": name, "types": items(name)}),
    Route("GET", "/v1/events/{id}", retrieve),
    Route(
        "POST",
        "/v1/webhook_endpoints",
        create_endpoint,
        {**_ENDPOINT, "api_version": one_of(API_VERSION)},
        required=("enabled_events", "url"),
    ),
    Route("GET", "/v1/webhook_endpoints", list_endpoints, PAGE),
    Route("GET", "/v1/webhook_endpoints/{id}", retrieve_endpoint),
    Route("POST", "/v1/webhook_endpoints/{id}", update_endpoint, {**_ENDPOINT, "disabled": flag}),
    Route("DELETE", "/v1/webhook_endpoints/{id}", delete_endpoint),
)
