"""Where a caller is: addresses, the networks from which alone a key may be used, and proxies in between. Pure.

It is the peer's address, whatever headers say, unless the peer is one of the operator's own proxies.
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from chappe_kernel.errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FORWARDED_FOR = b"x-forwarded-for"
_SITE_BITS = {4: 24, 6: 48}
_REMEMBERED = 4096
_IPV4_BYTES = 4
_MAX_LENGTH = 45


def parse_address(text: str) -> Address | None:
    """None for what is no address. An IPv4 client of a socket for both is the same client on either."""
    # What is remembered must be small, whatever somebody writes into a header.
    return _parse_short(text) if len(text) <= _MAX_LENGTH else None


def parse_network(text: str) -> str:
    """A network in its one spelling, `192.0.2.0/24`; an address alone is a network of one.

    Raises `Invalid` for anything else: also for an address with bits beyond its prefix, where nobody knows which of
    both was meant, and for IPv4 written as IPv6, which no client's address ever matches.
    """
    try:
        # Without a zone (`fe80::1%eth0`), which is one machine's own name for a link.
        network = ipaddress.ip_network(text.strip().replace("%", "no zone"))
    except ValueError:
        raise Invalid("not a network like 192.0.2.0/24 or 2001:db8::/32", code="invalid_network") from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise Invalid("write an IPv4 network as IPv4", code="invalid_network")
    return str(network)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks with commas between, as a setting has them. Raises `Invalid`."""
    return tuple(ipaddress.ip_network(parse_network(part)) for part in text.split(",") if part.strip())


def client_address(
    peer: str | None, headers: Sequence[tuple[bytes, bytes]], proxies: Sequence[Network]
) -> Address | None:
    """Whoever the last proxy of ours says it was called by. None when that is not to be known.

    `X-Forwarded-For` is read from its end, where our own proxies have written: all before the first address that is
    not theirs is the client's own story.
    """
    address = None if peer is None else parse_address(peer)
    if address is None or not is_one_of(address, proxies):
        return address
    listed = b",".join(value for name, value in headers if name == _FORWARDED_FOR)
    for hop in reversed(listed.decode("latin-1").split(",") if listed else ()):
        address = parse_address(hop.strip())
        if address is None or not is_one_of(address, proxies):
            return address
    return address


def is_within(address: Address | None, networks: Sequence[str]) -> bool:
    """Whether one of these networks holds the address. None of them holds one that is not known; what is no network
    holds nobody."""
    return address is not None and is_one_of(address, _parse_all(tuple(networks)))


def site_of(address: Address) -> str:
    """The /24 of IPv4, the /48 of IPv6: about whose network it is, and not about whose machine."""
    return _site_of(address.packed)


@lru_cache(_REMEMBERED)
def site_of_peer(peer: str | None) -> str | None:
    """`site_of` whoever is at the other end of a connection, where no proxy is in between."""
    address = None if peer is None else parse_address(peer)
    return None if address is None else site_of(address)


@lru_cache(_REMEMBERED)
def _site_of(packed: bytes) -> str:
    return str(ipaddress.ip_network((packed, _SITE_BITS[4 if len(packed) == _IPV4_BYTES else 6]), strict=False))


def is_one_of(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


@lru_cache(_REMEMBERED)
def _parse_short(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(_REMEMBERED)
def _parse_all(networks: tuple[str, ...]) -> tuple[Network, ...]:
    found: list[Network] = []
    for network in networks:
        try:
            found.append(ipaddress.ip_network(network, strict=False))
        except ValueError:
            continue
    return tuple(found)
