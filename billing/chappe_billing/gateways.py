"""Gateways' names, as regions send them."""

from chappe_kernel.errors import Invalid

_MAX_LENGTH = 100


def check_gateway_name(name: str) -> None:
    """Raises `Invalid` for a name that cannot be kept. It fails the call, not an event: the caller named itself."""
    if not (name.isprintable() and 0 < len(name) <= _MAX_LENGTH):
        raise Invalid("a gateway's name is 1 to 100 printable characters", code="invalid_gateway", param="gateway")
