"""Region cell ↔ control plane: the internal API, `{control_url}/internal/v1`, JSON.

Every call carries `Authorization: Bearer <the region's credential>`, which says which region calls. Durations, not
instants, cross the wire where a deadline is meant: each side counts them on its own monotonic clock, a gateway from
the moment it sent the request, so that no clock's error makes a grant live longer than the control plane believes.

| call | answer |
|---|---|
| `GET /snapshot` with `If-None-Match` | 200 `Snapshot` with its version as ETag, or 304; both with `DATABASE_TIME` |
| `GET /deployments` | `list[DeploymentSpec]` of the calling region |
| `POST /deployments/status` `list[DeploymentStatus]` | 204 |
| `POST /heartbeat` `Heartbeat` | 204 |
| `GET /keys/changes?since=REVISION&epoch=EPOCH` | `KeyChanges` |
| `POST /keys/resolve` `ResolveKey` | `KeyFacts`, or 404 `invalid_api_key` |
| `POST /content/terms` `AskContentTerms` | `list[ContentTerms]`, one for each that was asked about |
| `POST /grants` `AskGrant` | `Grant`; 402 `insufficient_funds`, `monthly_budget_reached`; 503 `budget_unavailable` |
| `PUT /grants/{grant_id}/returned` `ReturnGrant` | 204 |
| `PUT /grants/{grant_id}/kept` `KeptGrant` | 204; 409 `not_restored` |
| `GET /grants/recalls?gateway=NAME&cursor=CURSOR&wait_s=SECONDS` | `Recalls`, as soon as there is one |
| `POST /usage` `UsageBatch` | `UsageReceipt` |

Errors are RFC 9457 problems with a `code`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

from chappe_kernel.api_keys import KeyKind, Pepper
from chappe_kernel.rating import Counts, Outcome, Price

DATABASE_TIME = "x-chappe-database-time"
"""A header: the database's time, ISO 8601. It decides which price is in force, whatever a gateway's clock says."""

Task = Literal["chat", "embeddings"]
Witness = Literal["gateway", "engine"]


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


def price_in_force(prices: Sequence[PriceVersion], now: datetime) -> PriceVersion | None:
    """The last one that has started; `prices` ascend by their start."""
    for version in reversed(prices):
        if version.starts_at <= now:
            return version
    return None


class ListingInRegion(Struct, frozen=True):
    region: str
    prices: tuple[PriceVersion, ...]
    """Ascending by `starts_at`: the one in force, and those scheduled."""
    batch_prices: tuple[PriceVersion, ...] = ()
    """Likewise, of batches' lines. Before the first one starts, the prices above hold for them too."""


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


class KeyChange(Struct, frozen=True):
    """What this key may do has changed; without a key, what any key of the tenant may."""

    tenant_id: UUID
    key_id: UUID | None = None


class KeyChanges(Struct, frozen=True):
    """What happened since the revision that was asked about. `changes` is None when that cannot be told (too many, or
    the database of `epoch` is not the one in which that revision was read): forget every `KeyFacts`.

    A gateway that has forgotten what this names, and asks anew, knows all that was true at `revision`, or newer."""

    epoch: str
    revision: int
    changes: tuple[KeyChange, ...] | None


class RateLimit(Struct, frozen=True):
    """What one holder may do in one region; `scope` says whose it is: `tenant:ten_…`, `project:prj_…`, `key:key_…`.
    With a `model` it counts that model's requests alone. Minutes are fixed; None limits nothing."""

    scope: str
    requests_per_minute: int | None = None
    model: str | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None


class MonthlyBudget(Struct, frozen=True):
    """A budget that stops: requests for `model`, or with None all, need grants that were leased within it."""

    id: UUID
    model: str | None = None


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
    budgets: tuple[MonthlyBudget, ...] = ()
    answers_kept_for_s: float = 0.0
    """For how long the tenant lets a region keep an answer, encrypted, for a repeat with the same `Idempotency-Key`."""
    content_kept_for_s: float = 0.0
    """For how long it lets a region keep content, encrypted: the state of Responses, files, batches. 0 keeps none."""
    quotas_hold_for_s: float | None = None
    """How much longer limits and budgets are these, if a raise among them ends: then ask again."""
    verified: bool = True
    """Unverified tenants have one share of each deployment together."""
    share: int = 1
    """How many shares of a busy deployment the tenant has."""
    prices: dict[str, tuple[PriceVersion, ...]] = {}
    """The tenant's own in the calling region, by listing, ascending by `starts_at`: the one in force, and those
    scheduled. Before the first one starts, and for whatever is missing, the listing's own prices hold."""


class ContentHolder(Struct, frozen=True):
    """Whose content a region keeps."""

    tenant_id: UUID
    project_id: UUID


class AskContentTerms(Struct, frozen=True):
    holders: tuple[ContentHolder, ...]


class ContentTerms(Struct, frozen=True):
    """For how long after it was made the calling region may keep this project's content: 0 where it may not be any
    more, because the residency was narrowed, the tenant is closed or unknown, or nothing is to be kept."""

    holder: ContentHolder
    kept_for_s: float


class AskGrant(Struct, frozen=True):
    """Lease budget. `grant_id` is the gateway's choice: asking again with it changes nothing."""

    grant_id: UUID
    tenant_id: UUID
    gateway: str
    wanted_nano: int
    minimum_nano: int
    budgets: tuple[UUID, ...] = ()
    """Monthly budgets that the grant must keep to, beside the tenant's funds."""
    needed_nano: int | None = None
    """What requests are waiting for. Of what is wanted beyond it, no more is lent than a share of what is free; with 0
    nobody waits, and nothing is recalled for it. None is all that is wanted."""
    wait_s: float = 0.0
    """How long to wait for what is recalled from other gateways, before the answer is `budget_unavailable`."""


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


class KeptGrant(Struct, frozen=True):
    """After a restore: a grant that the new epoch's database may not know, in which holds are still open. Until they
    end, `amount_nano - returned_nano` of it is spent or held. It admits nothing any more."""

    tenant_id: UUID
    gateway: str
    amount_nano: int
    returned_nano: int
    settle_for_s: float
    release_for_s: float
    budgets: tuple[UUID, ...] = ()


class Recalls(Struct, frozen=True):
    """Others need what these tenants' grants hold idle: give it back now, and for a second what becomes idle. A hint,
    told anew as long as somebody needs it; `cursor` is for the next question."""

    cursor: str
    tenants: tuple[UUID, ...]


class UsageEvent(Struct, frozen=True):
    """One request's charge, as it was settled in the cell.

    `counts` is what is charged. Beside it stand what the two witnesses say: the gateway's `delivered` (a lower bound
    in a stream that was cut: its chunks of text), the engine's `generated`; `None` where one of them is missing. Both
    are of the attempt that answered; `attempt` 0 reached no engine.
    """

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
    attempt: int = 0
    delivered: Counts | None = None
    generated: Counts | None = None
    settled_by: Witness = "gateway"
    """`engine`: the gateway died before it settled, and another settled by the engine's record."""
    idempotency_digest: bytes | None = None
    """HMAC of the client's `Idempotency-Key` and body, under a secret of the region: the second such request of a
    project within 24 hours is posted free of charge. Only what is charged has one: what failed may be tried again."""


class UsageBatch(Struct, frozen=True):
    gateway: str
    events: tuple[UsageEvent, ...]


class UsageReceipt(Struct, frozen=True):
    """Every event of the batch is in the database now: posted, or kept for the operator.

    `disputed` events tell another story of a request that is posted: each opened a discrepancy.
    """

    epoch: str
    posted: int
    repeated: int
    quarantined: int
    disputed: int = 0


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
    keys_revision: int = 0
    """All that had changed at this revision of `KeyChanges` is in force here for new requests, and within seconds for
    those that were running."""
    sent_again: str = ""
    """The epoch whose database has all that was recorded here, and by the dead gateways beside it, before this gateway
    first heard of it, and knows every grant with open holds."""
    leaving: bool = False
    """It has stopped serving: nobody waits for its word any more."""
