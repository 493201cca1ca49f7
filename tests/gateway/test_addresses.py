"""Where a request comes from is the connection's business, and a header's only behind a proxy of the operator's own."""

import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_gateway.settings import GatewaySettings
from chappe_kernel.errors import Invalid
from chappe_kernel.networks import client_address, is_within, parse_networks, site_of
from chappe_kernel.settings import load_settings
from tests.gateway.test_answers_shape import check_error
from tests.gateway.test_keys import PATH
from tests.gateway.world import RunningGateway, World, auth, chat_body

PROXIES = parse_networks("10.0.0.0/8, 2001:db8:ffff::/48,192.0.2.7")
ADDRESSES = st.ip_addresses()


def told(peer: str | None, *forwarded: str) -> str | None:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value.encode("latin-1")) for value in forwarded)]
    address = client_address(peer, headers, PROXIES)
    return None if address is None else str(address)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("198.51.100.1", (), "198.51.100.1"),
        ("198.51.100.1", ("203.0.113.9",), "198.51.100.1"),
        ("10.1.2.3", ("203.0.113.9",), "203.0.113.9"),
        ("::ffff:10.1.2.3", ("203.0.113.9",), "203.0.113.9"),
        ("10.1.2.3", ("::ffff:203.0.113.9",), "203.0.113.9"),
        ("2001:db8:ffff::1", ("2001:db8:1::5",), "2001:db8:1::5"),
        # What the client wrote itself stands first, and is not reached.
        ("10.1.2.3", ("1.1.1.1, 203.0.113.9",), "203.0.113.9"),
        ("10.1.2.3", ("1.1.1.1", "203.0.113.9"), "203.0.113.9"),
        ("10.1.2.3", ("10.9.9.9, 203.0.113.9, 10.4.4.4 , 192.0.2.7",), "203.0.113.9"),
        ("10.1.2.3", ("nonsense, 203.0.113.9, 10.4.4.4",), "203.0.113.9"),
        # Calls from inside.
        ("10.1.2.3", (), "10.1.2.3"),
        ("10.1.2.3", ("10.9.9.9, 10.4.4.4",), "10.9.9.9"),
        # Nobody knows.
        ("10.1.2.3", ("203.0.113.9, nonsense",), None),
        ("10.1.2.3", ("203.0.113.9,",), None),
        ("10.1.2.3", ("203.0.113.9:4711",), None),
        ("10.1.2.3", ("1" * 5000,), None),
        (None, ("203.0.113.9",), None),
        ("testclient", (), None),
    ],
)
def test_the_last_proxy_of_ours_says_who_called_it(peer: str | None, forwarded: tuple[str, ...], client: str) -> None:
    assert told(peer, *forwarded) == client


@given(peer=ADDRESSES, story=st.lists(ADDRESSES.map(str) | st.text(st.characters(max_codepoint=255)), max_size=4))
def test_nobody_elses_headers_change_where_a_request_comes_from(peer: ipaddress.IPv4Address, story: list[str]) -> None:
    if not any(peer in network for network in PROXIES):
        assert told(str(peer), *story) == told(str(peer))


@given(client=ADDRESSES, story=st.lists(ADDRESSES.map(str), max_size=4))
def test_a_client_cannot_hide_behind_what_it_writes(client: ipaddress.IPv4Address, story: list[str]) -> None:
    """A proxy appends the address that called it to whatever the header said before."""
    if not any(client in network for network in PROXIES):
        assert told("10.1.2.3", ", ".join([*story, str(client)])) == told(str(client))


@pytest.mark.parametrize(
    ("address", "networks", "inside"),
    [
        ("203.0.113.9", ("203.0.113.0/24",), True),
        ("203.0.113.9", ("198.51.100.0/24", "203.0.113.9/32"), True),
        ("203.0.113.9", ("203.0.113.9",), True),
        ("203.0.114.9", ("203.0.113.0/24",), False),
        ("203.0.113.9", (), False),
        ("203.0.113.9", ("2001:db8::/32",), False),
        ("203.0.113.9", ("::/0",), False),
        ("203.0.113.9", ("nonsense",), False),
        ("2001:db8:1::5", ("2001:db8::/32", "nonsense"), True),
        ("2001:db8:1::5", ("0.0.0.0/0",), False),
    ],
)
def test_an_address_is_in_one_of_the_networks_or_in_none(address: str, networks: tuple[str, ...], inside: bool) -> None:
    assert is_within(ipaddress.ip_address(address), networks) is inside
    assert is_within(None, networks) is False


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("203.0.113.9", "203.0.113.0/24"),
        ("0.0.0.1", "0.0.0.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::1", "::/48"),
        ("fe80::1%eth0", "fe80::/48"),
    ],
)
def test_what_is_kept_of_an_address_is_its_site(address: str, site: str) -> None:
    assert site_of(ipaddress.ip_address(address)) == site


def test_wrong_networks_stop_the_start() -> None:
    environ = {f"CHAPPE_{name.upper()}": "1" for name in ("region", "gateway_id", "control_url", "region_credential")}
    environ |= {f"CHAPPE_{name.upper()}": "1" for name in ("serving_url", "redis_url", "spool_dir")}
    assert load_settings(GatewaySettings, environ).trusted_proxies == ""
    for wrong in ("10.0.0.1/8", "proxy.example", "10.0.0.0/8;::1", "*"):
        with pytest.raises(Invalid):
            load_settings(GatewaySettings, environ | {"CHAPPE_TRUSTED_PROXIES": wrong})


def narrow(world: World, *networks: str) -> None:
    world.control.keys[world.key] = msgspec.structs.replace(world.control.keys[world.key], networks=networks)


async def test_a_key_works_from_its_networks_only(world: World, gateway: RunningGateway) -> None:
    narrow(world, "192.0.2.0/24")
    other = world.control.new_key(world.tenant)
    for path, body in ((PATH, chat_body()), ("/v1/embeddings", {"model": "multilingual-e5-small", "input": "x"})):
        answer = await gateway.http.post(path, json=body, headers=auth(world.key))
        check_error(answer, 403, "address_not_allowed")
    check_error(await gateway.http.get("/v1/models", headers=auth(world.key)), 403, "address_not_allowed")
    assert world.engine.seen == []
    world.control.keys[other] = msgspec.structs.replace(world.control.keys[other], networks=("127.0.0.0/8", "::1/128"))
    assert (await gateway.http.post(PATH, json=chat_body(), headers=auth(other))).status_code == 200


async def test_without_trusted_proxies_forwarded_headers_open_nothing(world: World, gateway: RunningGateway) -> None:
    narrow(world, "192.0.2.0/24")
    for name in ("x-forwarded-for", "forwarded", "x-real-ip", "x-client-ip", "cf-connecting-ip"):
        value = "for=192.0.2.1" if name == "forwarded" else "192.0.2.1"
        answer = await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key) | {name: value})
        check_error(answer, 403, "address_not_allowed")


async def test_behind_a_trusted_proxy_the_client_counts_and_not_the_proxy(world: World) -> None:
    narrow(world, "192.0.2.0/24")
    async with world.gateway(trusted_proxies="127.0.0.1/32") as gateway:
        for forwarded, status in (("192.0.2.9", 200), ("192.0.2.9, 198.51.100.1", 403), ("", 403), ("x", 403)):
            headers = auth(world.key) | {"x-forwarded-for": forwarded}
            answer = await gateway.http.post(PATH, json=chat_body(), headers=headers)
            assert answer.status_code == status, forwarded
        [event] = await world.events(1)
    assert event.client_network == "192.0.2.0/24"


async def test_the_event_says_the_clients_network_and_no_closer(world: World, gateway: RunningGateway) -> None:
    headers = auth(world.key) | {"x-forwarded-for": "192.0.2.9"}
    assert (await gateway.http.post(PATH, json=chat_body(), headers=headers)).status_code == 200
    [event] = await world.events(1)
    assert event.client_network == "127.0.0.0/24"
