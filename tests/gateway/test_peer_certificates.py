"""Between regions with mutual TLS: what says that a gateway sent it comes with a gateway's certificate, or not at all.

Clients come to the same port, and need none."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from chappe_gateway.peers.peer_seal import PeerSeal
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import new_id
from chappe_kernel.wire.peer import NOT_ADMITTED_HEADER, STATUS_PATH, Ticket
from tests.gateway.certificates import Authority, Certificate
from tests.gateway.fake_control import CHAT, ELSEWHERE_ONLY
from tests.gateway.scripted_engine import ScriptedEngine
from tests.gateway.servers import free_port
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RunningGateway, World, auth, chat_body, until

PATH = "/v1/chat/completions"
STATUS = STATUS_PATH.decode()


@dataclass
class Trust:
    """Who signs what: the edge's certificates are what clients trust, the peers' what gateways show each other."""

    edge: Authority
    peers: Authority
    strangers: Authority

    def settings(self, shown: Certificate | None = None, **changes: Any) -> dict[str, Any]:
        """A gateway's: it serves over TLS, asks peers for their certificate, and shows this one."""
        served = self.edge.issue("gateway")
        own = (
            {} if shown is None else {"peer_certificate_file": str(shown.certificate), "peer_key_file": str(shown.key)}
        )
        return {
            "tls_certificate_file": str(served.certificate),
            "tls_key_file": str(served.key),
            "peer_ca_file": str(self.edge.file),
            "peer_client_ca_file": str(self.peers.file),
            "peers_poll_s": 0.05,
            **own,
            **changes,
        }

    def client(self, port: int, shown: Certificate | None = None) -> httpx.AsyncClient:
        """Who trusts the edge, and shows a certificate or none."""
        context = ssl.create_default_context(cafile=str(self.edge.file))
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return httpx.AsyncClient(verify=context, base_url=f"https://127.0.0.1:{port}", timeout=20)


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return Trust(*(Authority(tmp_path, name) for name in ("edge", "peers", "strangers")))


@dataclass
class Frankfurt:
    """A region that asks its peers for certificates, and its engine."""

    gateway: RunningGateway
    engine: ScriptedEngine


@pytest.fixture
async def frankfurt(world: World, trust: Trust) -> AsyncIterator[Frankfurt]:
    engine = ScriptedEngine(free_port(), world.redis_url)
    world.control.gateway_urls = {region: f"https://127.0.0.1:{port}" for region, port in world.ports.items()}
    serving = f"http://127.0.0.1:{engine.port}"
    settings = trust.settings(trust.peers.issue("de-fra"), serving_url=serving)
    async with engine.running(), world.gateway("de-fra", "gw-2", **settings) as gateway:
        yield Frankfurt(gateway, engine)


def knows_frankfurt(here: RunningGateway) -> bool:
    return here.gateway.peers._peers["de-fra"].seen is not None


def ticket_for_frankfurt(world: World) -> dict[str, str]:
    """As good as Paris's own: whoever has the peppers can make one."""
    seal = PeerSeal("fr-par")
    seal.use(world.control.peppers)
    return {"x-chappe-peer": seal.seal(Ticket(new_id(), "fr-par", "de-fra")).decode()}


async def test_a_gateway_with_its_certificate_sends_on_and_clients_need_none(
    world: World, trust: Trust, frankfurt: Frankfurt
) -> None:
    async with (
        world.gateway(**trust.settings(trust.peers.issue("fr-par"))) as paris,
        trust.client(paris.port) as to_paris,
        trust.client(frankfurt.gateway.port) as to_frankfurt,
    ):
        await until(lambda: knows_frankfurt(paris))
        body = {**chat_body(), "model": ELSEWHERE_ONLY}
        for stream in (False, True):
            answer = await to_paris.post(PATH, json={**body, "stream": stream}, headers=auth(world.key))
            assert (answer.status_code, answer.headers["x-chappe-region"]) == (200, "de-fra"), answer.text
        for client, model in ((to_paris, CHAT), (to_frankfurt, ELSEWHERE_ONLY)):
            answer = await client.post(PATH, json={**chat_body(), "model": model}, headers=auth(world.key))
            assert answer.status_code == 200, answer.text
    assert len(await world.events(4)) == 4
    assert len(frankfurt.engine.generations()) == 3


async def test_without_a_certificate_nothing_is_sent_on_and_a_ticket_is_worth_nothing(
    world: World, trust: Trust, frankfurt: Frankfurt
) -> None:
    async with (
        world.gateway(**trust.settings()) as paris,
        trust.client(paris.port) as to_paris,
        trust.client(frankfurt.gateway.port) as bare,
    ):
        await paris.gateway.peers.poll()
        assert not knows_frankfurt(paris)
        answer = await to_paris.post(PATH, json={**chat_body(), "model": ELSEWHERE_ONLY}, headers=auth(world.key))
        check_error(answer, 404, "model_not_found", "model")
        for method, path in (("POST", PATH), ("GET", STATUS)):
            headers = {**auth(world.key), **ticket_for_frankfurt(world)}
            refused = await bare.request(method, path, json=chat_body(), headers=headers)
            check_error(refused, 403, "peer_refused", region="de-fra")
            assert refused.headers[NOT_ADMITTED_HEADER.decode()] == "1"
        # The same connection still serves a client who claims nothing.
        own = {**chat_body(), "model": ELSEWHERE_ONLY}
        assert (await bare.post(PATH, json=own, headers=auth(world.key))).status_code == 200
    assert len(frankfurt.engine.generations()) == 1


async def test_a_certificate_is_no_ticket_and_no_key(world: World, trust: Trust, frankfurt: Frankfurt) -> None:
    async with trust.client(frankfurt.gateway.port, trust.peers.issue("fr-par")) as certified:
        assert (await certified.get(STATUS, headers=ticket_for_frankfurt(world))).status_code == 200
        check_error(await certified.get(STATUS), 404, "not_found", region="de-fra")
        forged = {**auth(world.key), "x-chappe-peer": "x" * 120}
        check_error(await certified.post(PATH, json=chat_body(), headers=forged), 403, "peer_refused", region="de-fra")
        check_error(await certified.post(PATH, json=chat_body()), 401, "invalid_api_key", region="de-fra")
    assert frankfurt.engine.generations() == []


@pytest.mark.parametrize("shown", ["a stranger's", "an old one", "a server's", "its own"])
async def test_a_certificate_that_is_not_good_ends_the_connection(
    world: World, trust: Trust, frankfurt: Frankfurt, shown: str
) -> None:
    certificates = {
        "a stranger's": lambda: trust.strangers.issue("fr-par"),
        "an old one": lambda: trust.peers.issue("fr-par", is_over=True),
        "a server's": lambda: trust.peers.issue("fr-par", for_servers_alone=True),
        # What clients trust says nothing of who may be a peer.
        "its own": lambda: trust.edge.issue("gateway"),
    }
    async with trust.client(frankfurt.gateway.port, certificates[shown]()) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(STATUS, headers=ticket_for_frankfurt(world))


async def test_a_gateway_speaks_to_no_peer_that_it_cannot_trust(
    world: World, trust: Trust, frankfurt: Frankfurt
) -> None:
    settings = trust.settings(trust.peers.issue("fr-par"), peer_ca_file=str(trust.strangers.file))
    async with world.gateway(**settings) as paris, trust.client(paris.port) as client:
        await paris.gateway.peers.poll()
        assert not knows_frankfurt(paris)
        answer = await client.post(PATH, json={**chat_body(), "model": ELSEWHERE_ONLY}, headers=auth(world.key))
        check_error(answer, 404, "model_not_found", "model")
    assert frankfurt.engine.generations() == []


async def test_certificates_are_asked_for_over_tls_only(world: World, trust: Trust, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="CHAPPE_TLS_CERTIFICATE_FILE"):
        world.settings(peer_client_ca_file=str(trust.peers.file))
    with pytest.raises(Invalid, match="CHAPPE_PEER_CERTIFICATE_FILE"):
        world.settings(peer_key_file=str(trust.peers.file))
    missing = trust.settings(peer_client_ca_file=str(tmp_path / "nowhere.pem"))
    with contextlib.suppress(FileNotFoundError):
        async with world.gateway(**missing):
            pytest.fail("it serves without knowing whom to trust")
