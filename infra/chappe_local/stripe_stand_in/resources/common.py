"""What several nouns have in common."""

from collections.abc import Mapping
from typing import Any, Final

from chappe_local.stripe_stand_in.errors import Json
from chappe_local.stripe_stand_in.parameters import fields, merged_metadata, text
from chappe_local.stripe_stand_in.world import World, visible

ADDRESS_FIELDS: Final = ("city", "country", "line1", "line2", "postal_code", "state")
ADDRESS: Final = fields(**dict.fromkeys(ADDRESS_FIELDS, text))
SHIPPING: Final = fields(address=ADDRESS, name=text, phone=text)


def address(given: Mapping[str, Any] | None) -> Json:
    return {name: (given or {}).get(name) for name in ADDRESS_FIELDS}


def change(world: World, body: Json, given: Mapping[str, Any], *, event: str | None = None) -> Json:
    """Take over what an update gave, metadata merged. The event says what it was before; no change, no event."""
    before = visible(body)
    for name, value in given.items():
        if name == "metadata":
            body["metadata"] = merged_metadata(body["metadata"], value)
        elif name != "expand":
            body[name] = value
    previous = {name: before[name] for name in before if before[name] != body[name]}
    if previous:
        world.save(body)
        if event:
            world.announce(event, body, previous)
    return body


def new_metadata(params: Mapping[str, Any]) -> dict[str, str]:
    return merged_metadata({}, params.get("metadata", {}))
