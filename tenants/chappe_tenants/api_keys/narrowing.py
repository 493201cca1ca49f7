"""What a key may be tied to. Pure."""

from collections.abc import Sequence

from chappe_kernel.errors import Invalid
from chappe_kernel.networks import parse_network

MAX_NETWORKS = 100


def clean_networks(networks: Sequence[str] | None) -> list[str] | None:
    """Each once, in its one spelling, in the given order. None ties the key to no network.

    Raises `Invalid` for an empty list, which would be a key for nowhere, for too many, and for what is no network.
    """
    if networks is None:
        return None
    if not 1 <= len(networks) <= MAX_NETWORKS:
        raise Invalid(f"networks must name 1 to {MAX_NETWORKS} networks, or be null", param="networks")
    return list(dict.fromkeys(_clean(text, position) for position, text in enumerate(networks)))


def _clean(text: str, position: int) -> str:
    try:
        return parse_network(text)
    except Invalid as error:
        raise Invalid(f"networks[{position}]: {error.message}", code=error.code, param="networks") from None
