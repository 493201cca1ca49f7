"""How many tokens a prompt has, as the engine that would run it counts: what a request then is charged."""

from chappe_gateway.access.rights import Visitor
from chappe_gateway.admission import RunsElsewhere, find_offer
from chappe_gateway.dialects.extras import Extras, shown_tools
from chappe_gateway.edge.call import Call
from chappe_gateway.engines.engine_calls import count_exactly
from chappe_gateway.gateway import Gateway
from chappe_gateway.peers.forwarding import forward
from chappe_kernel.wire.engine import CountRequest, Message


async def count_for(
    gateway: Gateway,
    call: Call,
    visitor: Visitor,
    *,
    model: str,
    messages: tuple[Message, ...],
    extras: Extras | None,
    body: bytes,
) -> int | None:
    """Free, but a request like any other to the limits: an engine works for it. None when another region has answered.
    Raises what the client is to be told."""
    try:
        offer = find_offer(gateway, visitor, model, "chat")
    except RunsElsewhere as elsewhere:
        await forward(gateway, call, visitor, elsewhere, body=body)
        return None
    if extras is not None:
        gateway.health.expect_features(offer.deployment, extras.needs)
    taken = await gateway.limiter.admit(visitor.facts.limits, model=offer.listing.name)
    call.extra_headers = taken.headers
    try:
        gateway.enter(call)
        call.listing = offer.listing
        await gateway.rights.settle_in(call, visitor)
        asked = CountRequest(messages=messages, tools=shown_tools(extras))
        return await count_exactly(gateway, offer.deployment, asked)
    finally:
        gateway.leave(call)
        taken.settle(0)
