"""A key that is tied to networks opens nothing from anywhere else, whatever a header claims."""

import ipaddress
import secrets
from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.errors import Invalid
from chappe_kernel.networks import is_within, parse_address, parse_network, site_of
from tests.control.conftest import serve
from tests.keys.world import KeysWorld, Program


async def test_a_management_key_is_refused_from_elsewhere(alice: Program) -> None:
    elsewhere = await alice.key(kind="management", networks=["192.0.2.0/24", "2001:db8::/32"])
    here = await alice.key(kind="management", networks=["192.0.2.0/24", "127.0.0.1"])
    claims = {"x-forwarded-for": "192.0.2.7", "forwarded": "for=192.0.2.7", "x-real-ip": "192.0.2.7"}
    for headers in ({}, claims):
        answer = await alice.http.get(
            "/api/v1/projects", headers={"authorization": f"Bearer {elsewhere['secret']}", **headers}
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "address_denied")
    answer = await alice.http.get("/api/v1/projects", headers={"authorization": f"Bearer {here['secret']}"})
    assert answer.status_code == 200


async def test_behind_a_trusted_proxy_the_client_counts_and_is_in_the_log(keys: KeysWorld, alice: Program) -> None:
    key = await alice.key(kind="management", networks=["192.0.2.0/24"])
    settings = replace(keys.control.settings, trusted_proxies="127.0.0.1/32", port=0)
    async with serve(settings, keys.control.clock) as url, httpx.AsyncClient(base_url=url) as http:
        for forwarded, status in (
            ("192.0.2.9", 201),
            ("192.0.2.9, 198.51.100.1", 403),
            ("198.51.100.1, 192.0.2.9", 201),
            ("", 403),
            ("nonsense", 403),
        ):
            answer = await http.post(
                "/api/v1/projects",
                json={"name": secrets.token_hex(4)},
                headers={"authorization": f"Bearer {key['secret']}", "x-forwarded-for": forwarded},
            )
            assert answer.status_code == status, forwarded
    (newest, *_) = (await alice.get("/audit"))["items"]
    assert newest["actor"] == {"kind": "management_key", "id": key["id"], "address": "192.0.2.9"}


async def test_gateways_are_told_the_networks(keys: KeysWorld, alice: Program) -> None:
    key = await alice.key(networks=["192.0.2.7", " 192.0.2.7/32", "2001:DB8:0::/32"])
    assert key["networks"] == ["192.0.2.7/32", "2001:db8::/32"]
    facts = await keys.paris.resolve(key["secret"])
    assert facts is not None and facts.networks == ("192.0.2.7/32", "2001:db8::/32")
    await alice.change(f"/keys/{key['id']}", networks=None)
    facts = await keys.paris.resolve(key["secret"])
    assert facts is not None and facts.networks is None


async def test_the_release_before_finds_no_key_that_it_could_not_guard(keys: KeysWorld, alice: Program) -> None:
    """While releases change over, `resolve_secret` is what the old one asks: it knows no networks."""
    tied, free = await alice.key(name="tied", networks=["192.0.2.7"]), await alice.key(name="free")
    found = {}
    for key in (tied, free):
        rows = await keys.sql(
            "SELECT r.key_id FROM api_key k, resolve_secret(ARRAY[k.pepper_version], ARRAY[k.digest]) r "
            f"WHERE k.prefix = '{key['prefix']}' AND k.name = '{key['name']}'"
        )
        found[key["name"]] = len(rows)
    assert found == {"tied": 0, "free": 1}


@pytest.mark.parametrize(
    "text",
    ["", "x", "192.0.2.7/24", "192.0.2.0/33", "2001:db8::1/32", "::ffff:192.0.2.0/120", "fe80::1%eth0", "1.2.3", "0/0"],
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_network(text)


_ADDRESSES = st.ip_addresses()


@given(_ADDRESSES, st.integers(0, 128))
def test_an_address_is_in_its_own_networks(address: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int) -> None:
    found = parse_address(str(address))
    assert found is not None
    network = ipaddress.ip_network((found, min(bits, found.max_prefixlen)), strict=False)
    assert is_within(found, [str(network)])
    assert is_within(found, [site_of(found)])
    assert not is_within(found, [])
    assert not is_within(None, ["0.0.0.0/0", "::/0"])


@given(st.ip_addresses(v=4))
def test_an_ipv4_client_of_a_socket_for_both_is_the_same_client(address: ipaddress.IPv4Address) -> None:
    assert parse_address(f"::ffff:{address}") == address


def test_where_a_key_was_used_is_told_no_closer_than_the_network() -> None:
    assert site_of(ipaddress.ip_address("192.0.2.77")) == "192.0.2.0/24"
    assert site_of(ipaddress.ip_address("2001:db8:1:2:3::4")) == "2001:db8:1::/48"
