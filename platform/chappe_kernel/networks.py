"""Where a caller is: addresses, and the networks from which alone a key may be used. Pure."""

import ipaddress
from collections.abc import Sequence

from chappe_kernel.errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SITE_BITS = {4: 24, 6: 48}


def parse_address(text: str) -> Address | None:
    """None for what is no address. An IPv4 client of a socket for both is the same client on either."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


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


def is_within(address: Address | None, networks: Sequence[str]) -> bool:
    """Whether one of these networks holds the address. None of them holds one that is not known."""
    return address is not None and any(address in ipaddress.ip_network(network) for network in networks)


def site_of(address: Address) -> str:
    """The /24 of IPv4, the /48 of IPv6: about whose network it is, and not about whose machine."""
    return str(ipaddress.ip_network((address, _SITE_BITS[address.version]), strict=False))
