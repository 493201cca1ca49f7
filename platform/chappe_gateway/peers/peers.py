"""The other regions' gateways: whether they answer, how busy their deployments are, and how to call them.

Each gateway asks every other region's URL for its status now and then. Behind that URL may be several gateways:
one of them answers, and speaks for its region.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from chappe_gateway.access.snapshot import View
from chappe_gateway.engines.upstream import HttpClient, UpstreamLost
from chappe_gateway.peers.breakers import Breakers
from chappe_gateway.peers.peer_seal import PeerSeal
from chappe_gateway.settings import GatewaySettings
from chappe_gateway.turns.turns import Queue
from chappe_kernel.clock import Clock
from chappe_kernel.ids import new_id
from chappe_kernel.rating import upper_bound
from chappe_kernel.routing import Candidate
from chappe_kernel.wire.control import Listing, price_in_force
from chappe_kernel.wire.peer import PEER_HEADER, STATUS_PATH, DeploymentStatus, PeerStatus, Ticket

if TYPE_CHECKING:
    from chappe_gateway.gateway import Gateway

_log = structlog.get_logger()

_OK = 200
_TIMEOUT_S = 2.0
_MAX_STATUS_BYTES = 256 * 1024
_MISSES_UNTIL_AWAY = 2
# What is this old says nothing of now.
_STALE_S = 10.0


class _Seen(NamedTuple):
    """A peer's last answer."""

    deployments: dict[str, DeploymentStatus]
    round_trip_s: float
    at: float
    """Monotonic."""


class _Peer:
    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        self.url = url
        self.http = HttpClient(url, tls=tls)
        self.seen: _Seen | None = None
        self.misses = 0


class Peers:
    """One per gateway process."""

    def __init__(self, settings: GatewaySettings, clock: Clock) -> None:
        self._region = settings.region
        self._clock = clock
        self._tls = _tls(settings)
        self._period_s = settings.peers_poll_s
        self._peers: dict[str, _Peer] = {}
        self.seal = PeerSeal(settings.region)
        self.breakers = Breakers(clock)

    def snapshot_changed(self, _: View | None, new: View) -> None:
        """Peers are the snapshot's other regions, at its URLs."""
        self.seal.use(new.peppers)
        urls = {name: region.gateway_url for name, region in new.regions.items() if name != self._region}
        for name, peer in tuple(self._peers.items()):
            if urls.get(name) != peer.url:
                peer.http.close()
                del self._peers[name]
        for name, url in urls.items():
            if name not in self._peers:
                self._peers[name] = _Peer(url, self._tls)
        self.breakers.keep(urls)

    def candidates(
        self, view: View, listing: Listing, *, prompt_tokens: int, completion_tokens: int
    ) -> list[Candidate]:
        """The other regions that offer it, with what a request of these bounds costs there by everybody's price."""
        now = self._clock.monotonic()
        found = []
        for offer in listing.regions:
            peer = self._peers.get(offer.region)
            if peer is None:
                continue
            version = price_in_force(offer.prices, self._clock.now())
            price_nano = None if version is None else upper_bound(version.price, prompt_tokens, completion_tokens)
            found.append(self._candidate(offer.region, peer, listing.name, price_nano, now))
        return found

    def client(self, region: str) -> HttpClient | None:
        """None if the region is gone from the snapshot."""
        peer = self._peers.get(region)
        return None if peer is None else peer.http

    async def poll(self) -> None:
        """One look at each of them, all at once."""
        await asyncio.gather(*(self._look(name, peer) for name, peer in tuple(self._peers.items())))

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.poll()
            await asyncio.sleep(self._period_s)

    def close(self) -> None:
        for peer in self._peers.values():
            peer.http.close()

    def _candidate(self, region: str, peer: _Peer, model: str, price_nano: int | None, now: float) -> Candidate:
        seen = peer.seen
        status = None if seen is None or now - seen.at > _STALE_S else seen.deployments.get(model)
        if seen is None or status is None or not self.breakers.would_pass(region):
            return Candidate(region, answers=False, price_nano=price_nano)
        return Candidate(
            region,
            answers=True,
            price_nano=price_nano,
            running=status.running,
            waiting=status.waiting,
            limit=status.limit,
            ttft_s=None if status.ttft_s is None else status.ttft_s + seen.round_trip_s,
        )

    async def _look(self, name: str, peer: _Peer) -> None:
        sealed = self.seal.seal(Ticket(new_id(), self._region, name))
        header = b"%b: %b\r\n" % (PEER_HEADER, sealed)
        asked_at = self._clock.monotonic()
        try:
            reply = await peer.http.fetch(
                b"GET", STATUS_PATH, header, timeout_s=_TIMEOUT_S, limit_bytes=_MAX_STATUS_BYTES
            )
            status = msgspec.json.decode(reply.body, type=PeerStatus) if reply.status == _OK else None
        except (UpstreamLost, TimeoutError, msgspec.DecodeError, UnicodeDecodeError):
            status = None
        if status is None or status.region != name:
            peer.misses += 1
            if peer.seen is not None and peer.misses >= _MISSES_UNTIL_AWAY:
                peer.seen = None
                _log.warning("peer_away", region=name)
            return
        now = self._clock.monotonic()
        if peer.seen is None:
            _log.info("peer_answers", region=name)
        peer.misses = 0
        peer.seen = _Seen({known.name: known for known in status.deployments}, now - asked_at, now)


def own_status(gateway: "Gateway") -> PeerStatus:
    """What this gateway says of its region: deployments that answer, and that it would send something to."""
    queues = {queue.deployment: queue for queue in gateway.turns.queues()}
    return PeerStatus(
        gateway.settings.region,
        tuple(_own_deployment(gateway, name, queues.get(name)) for name in _answering(gateway)),
    )


def _answering(gateway: "Gateway") -> Iterable[str]:
    return sorted(name for name in gateway.health.healthy if gateway.breakers.would_pass(name))


def _own_deployment(gateway: "Gateway", name: str, queue: Queue | None) -> DeploymentStatus:
    model = gateway.metrics.models.get(name)
    ttft_s = None if model is None else model.recent_ttft_s
    if queue is None:
        return DeploymentStatus(name, 0, 0, gateway.turns.capacity(name), ttft_s)
    return DeploymentStatus(name, queue.running, queue.waiting, queue.limit, ttft_s)


def _tls(settings: GatewaySettings) -> ssl.SSLContext | None:
    """For `https` peers: whom to trust, and with what to show who we are (mutual TLS)."""
    if not (settings.peer_ca_file or settings.peer_certificate_file):
        return None
    context = ssl.create_default_context(cafile=settings.peer_ca_file or None)
    if settings.peer_certificate_file:
        context.load_cert_chain(settings.peer_certificate_file, settings.peer_key_file or None)
    return context
