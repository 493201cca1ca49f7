"""Gateway ↔ gateway, over the regions' public URLs, TLS in production.

| call | answer |
|---|---|
| `GET /internal/peer` with `PEER_HEADER` | `PeerStatus`; 404 for everybody else |
| `POST /internal/peer` with a `Ticket` that names who `left` | 204 |
| a client's own request with `PEER_HEADER` | its answer; with `NOT_ADMITTED_HEADER` nothing was begun, held, charged |

A forwarded request carries what its client sent (key, region, priority, `Idempotency-Key`, the dialect's headers and
the body, as they came), and a sealed `Ticket`: under which id it runs, whence it came, for whom it is. The gateway that
gets it decides everything itself, as if the client had come to it, and never sends it on.
"""

from uuid import UUID

from msgspec import Struct

PEER_HEADER = b"x-chappe-peer"
NOT_ADMITTED_HEADER = b"x-chappe-not-admitted"
STATUS_PATH = b"/internal/peer"


class Ticket(Struct, frozen=True, array_like=True):
    """What one gateway says to another. Fields are only ever added at the end."""

    id: UUID
    """Of the request, or of a question for the status. Its time (it is a UUIDv7) is the ticket's."""
    origin: str
    """The region that sends it."""
    target: str
    """The only region where it counts."""
    client: str | None = None
    """The client's address, as the first gateway knows it."""
    body_sha256: bytes = b""
    left: UUID | None = None
    """The request whose client has left: then its connection did not end by a fault between the gateways."""


class DeploymentStatus(Struct, frozen=True):
    """One model at one gateway."""

    name: str
    running: int
    waiting: int
    limit: int
    ttft_s: float | None


class PeerStatus(Struct, frozen=True):
    """What of a region's deployments answers, as the gateway sees it that was asked."""

    region: str
    deployments: tuple[DeploymentStatus, ...]
