"""Which addresses a webhook may be sent to: those of the public Internet, and no others. Pure.

Python's own `is_global` differs between its patch releases and knows nothing of addresses inside addresses, so the
special-purpose registries of IANA (RFC 6890) are written down here.
"""

import ipaddress
from collections.abc import Iterator

from chappe_kernel.networks import Address

_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
            *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4"),
            # Clouds answer their metadata and their resolvers here, though these are public by the registries.
            *("168.63.129.16/32", "100.100.100.200/32"),
        ),
    )
)
# Of IPv6 only what is given out for the public Internet, less what in it is not.
_PUBLIC_V6 = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC_V6 = tuple(map(ipaddress.ip_network, ("2001::/23", "2001:db8::/32", "3fff::/20", "2620:4f:8000::/48")))
# Networks whose gateways go on to the IPv4 address in the last 32 bits: NAT64 (RFC 6052), mapped and compatible.
_LAST_BITS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::ffff:0:0/96", "::/96", "::ffff:0:0:0/96")))
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")
_LOW_32 = 0xFFFFFFFF


def is_public(address: Address) -> bool:
    """Whether it is nobody's own network, nor a way into one: every address that it holds must be public too.

    NAT64 through its well-known prefix is refused whatever it leads to: a network's own translator is inside it.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC)
    if address not in _PUBLIC_V6 or any(address in network for network in _NOT_PUBLIC_V6):
        return False
    return address.scope_id is None and all(is_public(inner) for inner in embedded(address))


def embedded(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses to which this one leads."""
    if any(address in network for network in _LAST_BITS):
        yield ipaddress.IPv4Address(int(address) & _LOW_32)
    if address in _SIX_TO_FOUR:
        yield ipaddress.IPv4Address(int(address) >> 80 & _LOW_32)


def is_loopback(address: Address) -> bool:
    """This machine, for development alone."""
    return address in ipaddress.ip_network("127.0.0.0/8") if address.version == 4 else address.is_loopback  # noqa: PLR2004 -- of IP
