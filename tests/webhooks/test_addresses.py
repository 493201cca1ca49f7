"""Webhooks to internal addresses: every kind of them is refused, also one that is hidden in another."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_control.webhooks.addresses import is_loopback, is_public
from chappe_kernel.networks import Address

_V4 = st.ip_addresses(v=4)


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.170", "198.18.0.1"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.51.100.7", "203.0.113.9"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "100::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8", "::127.0.0.1", "::ffff:0:10.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::808:808", "64:ff9b:1::7f00:1"),
        *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:a00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
        *("2001::1", "2001:2::1", "2001:20::1", "3fff::1", "fec0::1", "4000::1"),
    ],
)
def test_an_internal_address_is_refused(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "2a00::1"])
def test_a_public_address_is_taken(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@given(address=st.ip_addresses())
def test_nothing_is_public_that_python_calls_private(address: Address) -> None:
    assert not is_public(address) or address.is_global


@given(inner=_V4)
def test_an_ipv4_address_in_an_ipv6_one_is_never_easier(inner: ipaddress.IPv4Address) -> None:
    """Mapped, translated, or tunnelled: what may not be reached plainly may not be reached so either."""
    six_to_four = ipaddress.IPv6Address((0x2002 << 112) | (int(inner) << 80))
    assert not is_public(six_to_four) or is_public(inner)
    for prefix in ("::ffff:0:0", "64:ff9b::", "::"):
        assert not is_public(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(inner)))


def test_the_loopback_is_this_machine_alone() -> None:
    assert is_loopback(ipaddress.ip_address("127.0.0.1")) and is_loopback(ipaddress.ip_address("::1"))
    assert not is_loopback(ipaddress.ip_address("0.0.0.0")) and not is_loopback(ipaddress.ip_address("10.0.0.1"))
