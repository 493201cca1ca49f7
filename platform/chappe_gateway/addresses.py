"""Where a request comes from. Pure.

It is the peer's address, whatever headers say, unless the peer is one of the operator's own proxies.
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from chappe_gateway.errors import Headers
from chappe_kernel.errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FORWARDED_FOR = b"x-forwarded-for"
_SITE_BITS = {4: 24, 6: 48}
_REMEMBERED = 4096
_MAX_LENGTH = 45


def parse_networks(text: str) -> tuple[Network, ...]:
    """CIDRs or addresses with commas between. Raises `Invalid`."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise Invalid("networks are written like 10.0.0.0/8, 2001:db8::/32") from None


def client_address(peer: str | None, headers: Headers, proxies: Sequence[Network]) -> Address | None:
    """Whoever the last proxy of ours says it was called by. None when that is not to be known.

    `X-Forwarded-For` is read from its end, where our own proxies have written: all before the first address that is
    not theirs is the client's own story.
    """
    address = None if peer is None else _parse(peer)
    if address is None or not _is_one_of(address, proxies):
        return address
    listed = b",".join(value for name, value in headers if name == _FORWARDED_FOR)
    for hop in reversed(listed.decode("latin-1").split(",") if listed else ()):
        address = _parse(hop.strip())
        if address is None or not _is_one_of(address, proxies):
            return address
    return address


def is_within(address: Address | None, networks: tuple[str, ...]) -> bool:
    """Whether the address is in one of these CIDRs. An unknown one is in none; what is no CIDR holds nobody."""
    return address is not None and _is_one_of(address, _parse_all(networks))


def site_of(address: Address) -> str:
    """The /24 or /48 that it belongs to."""
    return str(ipaddress.ip_network((address.packed, _SITE_BITS[address.version]), strict=False))


def _is_one_of(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _parse(text: str) -> Address | None:
    # What is remembered must be small, whatever somebody writes into a header.
    return _parse_short(text) if len(text) <= _MAX_LENGTH else None


@lru_cache(_REMEMBERED)
def _parse_short(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # An IPv4 client of a socket for both; it is the same client on either.
        return address.ipv4_mapped or address
    return address


@lru_cache(_REMEMBERED)
def _parse_all(networks: tuple[str, ...]) -> tuple[Network, ...]:
    found: list[Network] = []
    for network in networks:
        try:
            found.append(ipaddress.ip_network(network, strict=False))
        except ValueError:
            continue
    return tuple(found)
