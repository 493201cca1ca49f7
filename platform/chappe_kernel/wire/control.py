"""Region cell ↔ control plane: the internal API, `{control_url}/internal/v1`, JSON.

Every call carries `Authorization: Bearer <the region's credential>`, which says which region calls. Durations, not
instants, cross the wire where a deadline is meant: each side counts them on its own monotonic clock, a gateway from
the moment it sent the request, so that no clock's error makes a grant live longer than the control plane believes.

| call | answer |
|---|---|
| `GET /snapshot` with `If-None-Match` | 200 `Snapshot` with its version as ETag, or 304 |
| `GET /deployments` | `list[DeploymentSpec]` of the calling region |
| `POST /deployments/status` `list[DeploymentStatus]` | 204 |
| `POST /heartbeat` `Heartbeat` | 204 |
| `POST /keys/resolve` `ResolveKey` | `KeyFacts`, or 404 `invalid_api_key` |
| `POST /grants` `AskGrant` | `Grant`; 402 `insufficient_funds`; 503 `budget_unavailable` |
| `PUT /grants/{grant_id}/returned` `ReturnGrant` | 204 |
| `POST /usage` `UsageBatch` | `UsageReceipt` |

Errors are RFC 9457 problems with a `code`.
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

from chappe_kernel.api_keys import KeyKind, Pepper
from chappe_kernel.rating import Counts, Outcome, Price

Task = Literal["chat", "embeddings"]


class Region(Struct, frozen=True):
    name: str
    jurisdiction: str
    gateway_url: str
    healthy: bool


class PriceVersion(Struct, frozen=True):
    """In force from `starts_at` until the next one of the same listing and region starts."""

    id: UUID
    starts_at: datetime
    price: Price


class ListingInRegion(Struct, frozen=True):
    region: str
    prices: tuple[PriceVersion, ...]
    """Ascending by `starts_at`: the one in force, and those scheduled."""


class Listing(Struct, frozen=True):
    """A model as it is sold. `name` is what clients send as `model`, and its deployment's name."""

    name: str
    publisher: str
    task: Task
    currency: str
    created: int
    context_tokens: int
    template_tokens: int
    """What the chat template may add to the body's own tokens, for the prompt's upper bound."""
    default_output_tokens: int
    max_output_tokens: int
    regions: tuple[ListingInRegion, ...]


class Snapshot(Struct, frozen=True):
    """All that a gateway must know to serve on its own. Too old (`max_age_s` without a 200 or 304): it fails closed."""

    version: str
    epoch: str
    """The database's identity; it changes with a restore."""
    keys_revision: int
    """Grows with every change that could alter a `KeyFacts`: a gateway forgets the ones it has cached."""
    max_age_s: float
    regions: tuple[Region, ...]
    listings: tuple[Listing, ...]
    peppers: tuple[Pepper, ...]
    portal_origin: str = ""
    """`https://portal.example`: the only origin whose pages may call a gateway. Empty: none."""


class KeyDigest(Struct, frozen=True):
    pepper_version: int
    digest: bytes


class ResolveKey(Struct, frozen=True):
    """The same key under every pepper in force."""

    digests: tuple[KeyDigest, ...]


class RateLimit(Struct, frozen=True):
    """A limit of requests per fixed minute and region; `scope` says whose: `tenant:ten_…`, `key:key_…`."""

    scope: str
    requests_per_minute: int


class KeyFacts(Struct, frozen=True):
    """What a key, or the key behind a browser token, may do. `regions` is already narrowed by tenant, project and key,
    in order of preference."""

    key_id: UUID
    project_id: UUID
    tenant_id: UUID
    kind: KeyKind
    active: bool
    currency: str
    regions: tuple[str, ...]
    models: tuple[str, ...] | None
    limits: tuple[RateLimit, ...]
    valid_for_s: float | None = None
    """How much longer the secret opens anything, if it has an end: a browser token's, or a key's that expires."""
    networks: tuple[str, ...] | None = None
    """CIDRs from which alone it may be used; None is anywhere."""


class AskGrant(Struct, frozen=True):
    """Lease budget. `grant_id` is the gateway's choice: asking again with it changes nothing."""

    grant_id: UUID
    tenant_id: UUID
    gateway: str
    wanted_nano: int
    minimum_nano: int


class Grant(Struct, frozen=True):
    """A block of budget. New requests until `admit_for_s`, streams until `settle_for_s`, freed at `release_for_s`."""

    grant_id: UUID
    amount_nano: int
    admit_for_s: float
    settle_for_s: float
    release_for_s: float


class ReturnGrant(Struct, frozen=True):
    """All that the gateway has given back so far of this grant; a smaller repeat changes nothing."""

    returned_nano: int


class UsageEvent(Struct, frozen=True):
    """One request's charge, as the gateway settled it."""

    request_id: UUID
    tenant_id: UUID
    project_id: UUID
    key_id: UUID
    grant_id: UUID
    listing: str
    price_version: UUID
    outcome: Outcome
    counts: Counts
    amount_nano: int
    hold_nano: int
    started_at: datetime
    finished_at: datetime
    ttft_ms: int | None = None
    client_network: str | None = None
    """Whence it came, and no closer: an IPv4 /24 or an IPv6 /48. None when a proxy does not say."""


class UsageBatch(Struct, frozen=True):
    gateway: str
    events: tuple[UsageEvent, ...]


class UsageReceipt(Struct, frozen=True):
    """Every event of the batch is in the database now: posted, or quarantined for the operator."""

    epoch: str
    posted: int
    repeated: int
    quarantined: int


class DeploymentSpec(Struct, frozen=True):
    """What should run in the calling region: one Ray Serve application of this name."""

    name: str
    engine: Literal["llama.cpp", "e5", "vllm", "simulated"]
    replicas: int
    max_ongoing_requests: int
    options: dict[str, Any]


class DeploymentStatus(Struct, frozen=True):
    """What does run. `state` is Ray Serve's application status in lower case."""

    name: str
    state: str
    message: str
    replicas_running: int


class DeploymentLoad(Struct, frozen=True):
    """How many admitted requests of one deployment are not settled yet, at one gateway."""

    name: str
    in_flight: int


class Heartbeat(Struct, frozen=True):
    """A gateway is alive and sees these deployments answer. A deployment without a load has nothing in flight."""

    gateway: str
    snapshot_version: str
    healthy_deployments: tuple[str, ...]
    loads: tuple[DeploymentLoad, ...] = ()
