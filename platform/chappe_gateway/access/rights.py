"""What a request may do: decided from its head alone when it comes, and again when its key's facts may have changed."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from chappe_gateway.access.auth import KeyCache
from chappe_gateway.access.key_feed import Changes
from chappe_gateway.access.snapshot import SnapshotKeeper, View
from chappe_gateway.edge.call import Call
from chappe_kernel.errors import Denied, Unauthenticated, Unavailable
from chappe_kernel.networks import Network, client_address, is_within, site_of, site_of_peer
from chappe_kernel.residency import expand, narrow
from chappe_kernel.wire.control import KeyFacts, Listing, PriceVersion, price_in_force

_REGION_HEADER = b"x-chappe-region"
# A change is known here within a second, and what runs must have ended five seconds after it.
_CONFIRM_WITHIN_S = 3.0
_ASK_AGAIN_S = 0.2
_CONFIRM_AT_ONCE = 64
_MAX_CONFIRMATIONS = 4


class Visitor(Struct, frozen=True):
    """Who is calling, and where the request may run."""

    view: View
    facts: KeyFacts
    allowed: tuple[str, ...]
    valid_until: float | None
    """Monotonic: when the key's or token's time is over."""
    generation: int
    """Of the key cache: as long as it is the newest, all of this is true."""
    is_batch: bool = False
    """Whether it is a line of a batch, which has a price of its own."""

    def price_in_force(self, listing: str, now: datetime) -> PriceVersion | None:
        """The tenant's own price here, else everybody's: of batches for a line of one, where there is such a price."""
        own = price_in_force(self.facts.prices.get(listing, ()), now)
        if own is not None:
            return own
        batch = price_in_force(self.view.batch_prices_here.get(listing, ()), now) if self.is_batch else None
        return self.view.price_in_force(listing, now) if batch is None else batch


class Rights:
    """One per gateway process."""

    def __init__(self, region: str, keys: KeyCache, snapshots: SnapshotKeeper, proxies: Sequence[Network]) -> None:
        self._region = region
        self._keys = keys
        self._snapshots = snapshots
        self._proxies = proxies
        self._confirming = asyncio.Semaphore(_CONFIRM_AT_ONCE)

    async def identify(self, call: Call) -> Visitor:
        """Raises `Unauthenticated`, `Denied`, `Unavailable`."""
        view = self._snapshots.view()
        if call.stand_in is None:
            known = await self._keys.authenticate(call.headers, view)
        else:
            known = await self._keys.authenticate_again(call.stand_in)
        facts, generation = known.facts, self._keys.generation
        # A line of a batch comes from nowhere: where its batch came from was looked at then.
        if (
            facts.networks is not None
            and call.stand_in is None
            and not is_within(client_address(call.peer, call.headers, self._proxies), facts.networks)
        ):
            raise Denied("this key may not be used from this address", code="address_not_allowed")
        allowed = _allowed_regions(call, facts, view)
        return Visitor(view, facts, allowed, known.until, generation, call.stand_in is not None)

    async def settle_in(self, call: Call, visitor: Visitor) -> Visitor:
        """Let the call begin its work as of now: between its head and here its key's facts may have changed.

        From then on `confirm` looks after it, whenever they change. Raises as `identify` does.
        """
        for _ in range(_MAX_CONFIRMATIONS):
            if visitor.generation == self._keys.generation:
                call.facts, call.valid_until = visitor.facts, visitor.valid_until
                return visitor
            visitor = await self._identify_again(call)
        raise Unavailable("API keys are changing; try again", code="key_lookup_unavailable")

    async def confirm(self, call: Call) -> None:
        """Look whether a running call may go on, and end it otherwise: also when nobody can tell in time."""
        try:
            async with asyncio.timeout(_CONFIRM_WITHIN_S), self._confirming:
                visitor = await self._insist(call)
        except (Unauthenticated, Denied) as refusal:
            call.withdraw(refusal)
        except TimeoutError:
            call.cut_engine("unconfirmed")
        else:
            call.facts, call.valid_until = visitor.facts, visitor.valid_until

    def address_of(self, call: Call) -> str | None:
        """The client's own address, if it is known."""
        address = client_address(call.peer, call.headers, self._proxies)
        return None if address is None else str(address)

    def site_of(self, call: Call) -> str | None:
        """The client's network, if it is known."""
        if not self._proxies:
            return site_of_peer(call.peer)
        address = client_address(call.peer, call.headers, self._proxies)
        return None if address is None else site_of(address)

    async def _insist(self, call: Call) -> Visitor:
        while True:
            try:
                return await self._identify_again(call)
            except Unavailable:
                await asyncio.sleep(_ASK_AGAIN_S)

    async def _identify_again(self, call: Call) -> Visitor:
        visitor = await self.identify(call)
        if self._region not in visitor.allowed:
            raise Denied(f"this request may not run in {self._region} any more", code="residency_denied")
        if call.listing is not None and not may_use(visitor, call.listing):
            raise Denied("this key may not use this model any more", code="model_denied")
        return visitor


def may_use(visitor: Visitor, listing: Listing) -> bool:
    """Whether the key's own list of models has it, and it is sold in the key's currency."""
    models = visitor.facts.models
    return (models is None or listing.name in models) and listing.currency == visitor.facts.currency


def touched_by(changes: Changes, calls: Iterable[Call]) -> list[Call]:
    """The running calls whose keys' facts these changes may have altered."""
    running = [call for call in calls if call.facts is not None]
    if changes is None:
        return running
    tenants = {change.tenant_id for change in changes if change.key_id is None}
    keys = {change.key_id for change in changes if change.key_id is not None}
    return [call for call in running if call.facts and (call.facts.tenant_id in tenants or call.facts.key_id in keys)]


def _allowed_regions(call: Call, facts: KeyFacts, view: View) -> tuple[str, ...]:
    if _REGION_HEADER not in call.named:
        return facts.regions
    asked = [value.decode("latin-1") for name, value in call.headers if name == _REGION_HEADER]
    # Two headers are one list, as HTTP has it. A name that nobody knows takes all the others' place: nothing is left.
    entries = [entry.strip() for value in asked for entry in value.split(",") if entry.strip()]
    return narrow(facts.regions, expand(entries, view.jurisdiction_of))
