"""An endpoint's URL, read once: what is connected to, what is asked for and what is shown come out of the same parse.

Two parsers that read one URL differently are how a checked name becomes another address. So there is one grammar, far
narrower than the RFCs': whatever it does not match is refused, and nothing ever parses the text again.
"""

import re
from typing import Final, NoReturn

from msgspec import Struct

from chappe_kernel.errors import Invalid

MAX_URL_LENGTH: Final = 2000
_PORTS: Final = frozenset({443, 8443})
_HOST = r"(?=[a-z0-9.-]{4,253}(?:[:/?]|\Z))(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
_CHARACTER = r"[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}"
_REST = rf"(?P<path>(?:/(?:{_CHARACTER})*)*)(?P<query>(?:\?(?:{_CHARACTER}|[/?])*)?)"
_PUBLIC = re.compile(rf"https://(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?{_REST}", re.ASCII)
_LOOPBACK = re.compile(rf"http://(?P<host>localhost|127\.0\.0\.1)(?::(?P<port>[0-9]{{1,5}}))?{_REST}", re.ASCII)
_HIGHEST_PORT: Final = 65535


class Target(Struct, frozen=True):
    """`path` is what follows the host, with its query, never empty."""

    is_tls: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """For the header `host`."""
        return self.host if self.port == (443 if self.is_tls else 80) else f"{self.host}:{self.port}"


def parse_target(url: str, *, to_loopback: bool = False) -> Target:
    """`https://name.example/path`, on port 443 or 8443; with `to_loopback` also `http://localhost:8000/path`.

    A host is a name of the DNS in lower case, never an address. Raises `Invalid`.
    """
    if len(url) > MAX_URL_LENGTH:
        _refuse(f"it has more than {MAX_URL_LENGTH} characters")
    found = _PUBLIC.fullmatch(url)
    is_tls = found is not None
    if found is None and to_loopback:
        found = _LOOPBACK.fullmatch(url)
    if found is None:
        _refuse("it must be like https://hooks.company.example/chappe, with a name in lower case and no address")
    port = int(found["port"] or (443 if is_tls else 80))
    if port not in _PORTS if is_tls else not 1 <= port <= _HIGHEST_PORT:
        _refuse("its port must be 443 or 8443")
    return Target(is_tls, found["host"], port, (found["path"] or "/") + found["query"])


def _refuse(why: str) -> NoReturn:
    raise Invalid(f"this is no address for a webhook: {why}", code="invalid_url", param="url")
