"""What stands between a request and an engine, in this order: key, residency, model, rate limit, spool, budget.

The first two look at headers alone. Each step raises the kernel's errors; nothing is charged before an engine worked.
"""

from typing import Protocol

from msgspec import Struct

from chappe_gateway.access.rights import Visitor, may_use
from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import WrongRegion
from chappe_gateway.gateway import Gateway
from chappe_gateway.limits.limit_leases import Taken
from chappe_gateway.limits.repeats import HEADER as IDEMPOTENCY_KEY
from chappe_gateway.money.grants import Hold
from chappe_gateway.peers.peer_seal import check_body
from chappe_kernel.errors import ChappeError, Denied, InsufficientFunds, Invalid, NotFound, Unavailable
from chappe_kernel.rating import upper_bound
from chappe_kernel.residency import Elsewhere, Here, Nowhere, Unhealthy, decide
from chappe_kernel.wire.control import Listing, PriceVersion, Task


class CountPrompt(Protocol):
    """Asks the engine how many tokens the prompt has. `None` when it does not say."""

    async def __call__(self) -> int | None: ...


class RunsElsewhere(Exception):
    """The model does not run here now; another of the request's regions may have it. `instead` is what to tell the
    client if none can be reached."""

    def __init__(self, listing: Listing, instead: ChappeError) -> None:
        super().__init__()
        self.listing = listing
        self.instead = instead


class Offer(Struct, frozen=True):
    """A listing as it is sold here and now."""

    listing: Listing
    price_version: PriceVersion

    @property
    def deployment(self) -> str:
        return self.listing.name


class Bounds(Struct, frozen=True):
    """The most that an engine may use for one request."""

    prompt_tokens: int
    completion_tokens: int


class Admitted(Struct, frozen=True):
    """A request that may run now, at most within `bounds`, which `hold` covers; `taken` of its limits."""

    visitor: Visitor
    offer: Offer
    bounds: Bounds
    hold: Hold
    taken: Taken


async def identify(gateway: Gateway, call: Call, path: str, *, needs_engine: bool = True) -> Visitor:
    """Key, address and residency, from headers alone; this region is one of those where the request may run. `path`
    is where the same resource is found in another region.

    Raises `Unauthenticated`, `Denied`, `WrongRegion`, `Unavailable`.
    """
    visitor = await gateway.rights.identify(call)
    view, allowed = visitor.view, visitor.allowed
    here = gateway.settings.region
    healthy = view.healthy_elsewhere
    if gateway.health.healthy or not needs_engine:
        healthy |= {here}
    match decide(allowed, here, healthy):
        case Here():
            return visitor
        case Nowhere():
            raise Denied("no region is left in which this request may run", code="residency_denied")
        case Unhealthy():
            raise Unavailable(f"none of {', '.join(allowed)} can serve now", code="region_unavailable")
        case Elsewhere(region=region):
            url = view.regions[region].gateway_url.rstrip("/")
            raise WrongRegion(f"this request may not run in {here}; send it to {url}{path}", location=url + path)


def find_offer(gateway: Gateway, visitor: Visitor, model: str, task: Task) -> Offer:
    """The listing, if this key may use it here. Raises `NotFound`, `Invalid`, `Unavailable`, `RunsElsewhere`."""
    listing = visitor.view.listings.get(model)
    if listing is None or not may_use(visitor, listing):
        raise _no_such_model(model)
    if listing.task != task:
        raise Invalid(f"the model `{model}` is for {listing.task}", code="wrong_task", param="model")
    if model not in visitor.view.prices_here:
        elsewhere = [offer.region for offer in listing.regions if offer.region in visitor.allowed]
        if not elsewhere:
            raise _no_such_model(model)
        missing = NotFound(
            f"the model `{model}` is not in {gateway.settings.region}; it is in {', '.join(elsewhere)}",
            code="model_not_found",
            param="model",
        )
        raise _elsewhere(visitor, listing, missing)
    price_version = visitor.price_in_force(model, gateway.snapshots.database_time())
    if price_version is None:
        raise Unavailable(f"the model `{model}` has no price in force yet", code="model_unavailable")
    if model not in gateway.health.healthy or not gateway.breakers.would_pass(model):
        silent = Unavailable(f"the model `{model}` does not answer in this region now", code="model_unavailable")
        raise _elsewhere(visitor, listing, silent)
    return Offer(listing, price_version)


def _elsewhere(visitor: Visitor, listing: Listing, instead: ChappeError) -> Exception:
    """A line of a batch stays where its batch is: what it says is kept there."""
    return instead if visitor.is_batch else RunsElsewhere(listing, instead)


async def admit(
    gateway: Gateway,
    call: Call,
    visitor: Visitor,
    offer: Offer,
    *,
    body: bytes,
    bounds: Bounds,
    count_prompt: CountPrompt,
) -> Admitted:
    """Rate limit, the client's own `Idempotency-Key`, the API key again if it may have changed, room in the spool, and
    a hold on the price of `bounds`, or of the exact prompt when only that fits.

    Whoever gets an `Admitted` must settle it. Raises `LimitExceeded`, `InsufficientFunds`, `Unavailable`, `Repeated`,
    `Conflict`, and what `identify` raises.
    """
    if call.forwarded is not None:
        check_body(call.forwarded, body)
    taken = await gateway.limiter.admit(
        visitor.facts.limits, model=offer.listing.name, tokens=bounds.prompt_tokens + bounds.completion_tokens
    )
    call.extra_headers = taken.headers
    try:
        if IDEMPOTENCY_KEY in call.named:
            call.claim = await gateway.repeats.claim(
                call.public_id,
                call.headers,
                project_id=visitor.facts.project_id,
                path=call.path,
                body=body,
                kept_for_s=visitor.facts.answers_kept_for_s,
            )
        return await _admit(gateway, call, visitor, offer, bounds=bounds, count_prompt=count_prompt, taken=taken)
    except BaseException:
        # It counts as a request, but used no tokens.
        taken.settle(0)
        if call.claim is not None:
            gateway.settle_apart(gateway.repeats.free(call.claim))
        raise


async def _admit(
    gateway: Gateway,
    call: Call,
    visitor: Visitor,
    offer: Offer,
    *,
    bounds: Bounds,
    count_prompt: CountPrompt,
    taken: Taken,
) -> Admitted:
    gateway.enter(call)
    try:
        call.listing = offer.listing
        visitor = await gateway.rights.settle_in(call, visitor)
        gateway.spool.reserve()
        try:
            bounds, hold = await _hold(gateway, visitor, offer, bounds, count_prompt)
        except BaseException:
            gateway.spool.release()
            raise
    except BaseException:
        gateway.leave(call)
        raise
    gateway.records.watch(call.public_id)
    gateway.run_on(call, offer.deployment)
    call.settle_by = hold.grant.settle_by
    return Admitted(visitor, offer, bounds, hold, taken)


async def _hold(
    gateway: Gateway, visitor: Visitor, offer: Offer, bounds: Bounds, count_prompt: CountPrompt
) -> tuple[Bounds, Hold]:
    """A hold on the price of these bounds, or of the exact prompt when only that fits."""
    price = offer.price_version.price
    tenant_id = visitor.facts.tenant_id
    budgets = tuple(
        budget.id for budget in visitor.facts.budgets if budget.model is None or budget.model == offer.listing.name
    )
    amount_nano = upper_bound(price, bounds.prompt_tokens, bounds.completion_tokens)
    try:
        # Whatever lies idle elsewhere is recalled, and is on its way while the engine counts.
        return bounds, await gateway.grants.hold(tenant_id, amount_nano, budgets, patience_s=0)
    except (InsufficientFunds, Unavailable) as refusal:
        is_lent = refusal.code == "budget_unavailable"
        if not (is_lent or isinstance(refusal, InsufficientFunds)):
            raise
        # The bound counts bytes; the real prompt is several times smaller and may well be affordable.
        prompt_tokens = await count_prompt()
        if prompt_tokens is not None and prompt_tokens < bounds.prompt_tokens:
            bounds = Bounds(prompt_tokens, bounds.completion_tokens)
            amount_nano = upper_bound(price, bounds.prompt_tokens, bounds.completion_tokens)
        elif not is_lent:
            raise
        return bounds, await gateway.grants.hold(tenant_id, amount_nano, budgets)


def _no_such_model(model: str) -> NotFound:
    # A client may have sent anything as the name; it gets back no more of it than a name can have.
    return NotFound(
        f"the model `{model[:100]}` does not exist, or this key may not use it",
        code="model_not_found",
        param="model",
    )
