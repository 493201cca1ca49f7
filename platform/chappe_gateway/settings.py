"""What a gateway is told by its environment, as `CHAPPE_` + the field's name in capitals."""

from dataclasses import dataclass, field
from pathlib import Path

from chappe_gateway.content.sealing import parse_keys
from chappe_kernel.errors import Invalid
from chappe_kernel.networks import parse_networks


@dataclass(frozen=True)
class GatewaySettings:
    """One gateway process. Times in seconds, sizes in bytes, money in nano-units of the tenant's currency."""

    region: str
    """The region this gateway executes in, as the catalogue names it."""
    gateway_id: str
    """Stable over restarts and unique in the region: it names the spool's file."""
    control_url: str
    """Base URL of the control plane."""
    region_credential: str = field(repr=False)
    """The region's secret for the internal API."""
    serving_url: str
    """Base URL of the region's Ray Serve, without a trailing slash."""
    redis_url: str = field(repr=False)
    """The region's Redis (`redis://` or `unix://`), for rate blocks and engine records. It may carry a password."""
    spool_dir: str
    """A folder on a persistent volume, best one for all gateways of the region: then each ships what another that died
    left behind. It is created when missing."""
    host: str = "127.0.0.1"
    port: int = 8411
    tls_certificate_file: str = ""
    """A PEM file with the gateway's certificate and whatever is between it and a root. With it and its key, clients
    are served over TLS and in no other way."""
    tls_key_file: str = field(default="", repr=False)
    """The PEM file of its private key, without a password."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    """Where Prometheus asks this process, in the clear and unasked who it is: never an address that tenants reach.
    0 is nowhere."""
    otlp_url: str = ""
    """Base URL of an OpenTelemetry collector of the cell (OTLP/HTTP). Empty: no spans."""
    otlp_ratio: float = 1.0
    """The part of traces that is recorded, 0 to 1, whatever clients ask for."""
    peer_ca_file: str = ""
    """PEM: who signs the certificates of the other regions' gateways. Empty: whoever the system trusts."""
    peer_certificate_file: str = ""
    peer_key_file: str = ""
    """PEM: what this gateway shows to those that ask for it (mutual TLS). The key may stand in the certificate's
    file."""
    peer_client_ca_file: str = ""
    """PEM: who signs the certificates that other regions' gateways must show here. With it, whatever says that a
    gateway sent it is refused on a connection without such a certificate; clients need none. It must sign for nobody
    else, and needs TLS here. Empty: the sealed ticket is enough."""
    max_body_bytes: int = 1024 * 1024
    """A request's body, as sent."""
    grant_block_nano: int = 50_000_000
    """What is leased ahead for a tenant with traffic."""
    gateways_in_region: int = 1
    """How many gateways the region has at least: into so many parts limits and what Serve takes of each deployment are
    split while Redis is away. Otherwise gateways know each other by it."""
    max_in_flight: int = 2048
    """Requests admitted at once, all tenants together; more are refused with 503."""
    max_connections: int = 8192
    """Open client connections. For one more, those that have been idle longest are closed, else itself."""
    max_connections_per_address: int = 0
    """Open connections from one address; more are closed at once. 0 is no bound: behind a proxy or a load balancer
    that is not among `trusted_proxies`, all clients have its address. Those of `trusted_proxies` have no bound."""
    head_timeout_s: float = 15.0
    """How long a client may take to send a request's head. A connection that is idle after a request has 75 s."""
    queue_wait_s: float = 30.0
    """How long a request waits for its turn at a busy deployment; then it is refused with 429."""
    queue_total: int = 1024
    """Requests that may wait for one deployment; more are refused with 429."""
    queue_per_tenant: int = 256
    """Those of one tenant among them. It also gets no more than what is free."""
    ttft_target_s: float = 1.0
    """A first token that takes longer than this and its prompt is late: then less is sent to the engines at once."""
    prefill_tokens_per_s: float = 200.0
    """How fast the slowest engine reads a prompt."""
    stall_s: float = 30.0
    """A client that accepts nothing for this long counts as disconnected."""
    idle_s: float = 60.0
    """An engine that is silent for this long in mid-stream counts as dead."""
    body_timeout_s: float = 30.0
    """How long a client may take to send its body."""
    record_wait_s: float = 5.0
    """How long a disconnected request waits for the engine's own record before it is settled without."""
    trusted_proxies: str = ""
    """The operator's own proxies in front of this gateway, as CIDRs with commas between. What these say in
    `X-Forwarded-For` of where a request comes from is believed, and nobody else's word is."""
    match_after_s: float = 60.0
    """How long engines must have been silent on a request of a dead gateway before it is settled by their records."""
    orphan_look_s: float = 5.0
    """How often the spools of the cell's other gateways are looked at: whether one lost its gateway."""
    snapshot_poll_s: float = 0.5
    keys_poll_s: float = 0.25
    """How often this gateway asks whose keys changed."""
    peers_poll_s: float = 2.0
    """How often the other regions' gateways are asked how busy they are."""
    heartbeat_s: float = 1.0
    drain_s: float = 150.0
    """How long a stopping gateway lets streams run."""
    spool_max_rows: int = 2_000_000
    """Unshipped events kept before new work is refused."""
    spool_min_free_bytes: int = 64 * 1024 * 1024
    """Free disk space below which new work is refused."""

    content_dir: str = ""
    """The folder of the region's content store, the same for all its gateways and on a file system of the machine's
    own. Empty: `content` in `spool_dir`. It is created when something is kept."""
    content_keys: str = field(default="", repr=False)
    """Base64 of 32 bytes each, with commas between: the first wraps tenants' keys, all open them. Empty: one is
    derived from the region's credential, and what is kept is lost when that changes."""
    content_per_tenant_bytes: int = 1024 * 1024 * 1024
    """What one tenant may keep in the region, as sealed."""
    content_total_bytes: int = 16 * 1024 * 1024 * 1024
    """What all of them may; `spool_min_free_bytes` of the disk stay free besides."""
    content_look_s: float = 30.0
    """How often what is kept is looked at: whether its time is over, or its owner's terms are."""
    max_file_bytes: int = 100 * 1024 * 1024
    """A file's content."""
    batch_look_s: float = 1.0
    """How often this gateway looks for batches that no gateway runs."""
    batch_lease_s: float = 20.0
    """How long a batch stays with a gateway that died before another goes on with it."""
    batch_lines_at_once: int = 8
    """Of one batch. They also wait for their turn behind everybody else's requests."""
    upload_timeout_s: float = 600.0
    """How long a client may take to send a file."""

    def __post_init__(self) -> None:
        """Raises `Invalid` for `trusted_proxies` that are no networks, `content_keys` that are no keys, a certificate
        without its key, and certificates that are asked for without TLS."""
        parse_networks(self.trusted_proxies)
        parse_keys(self.content_keys)
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise Invalid("CHAPPE_TLS_CERTIFICATE_FILE and CHAPPE_TLS_KEY_FILE go together", code="invalid_setting")
        if self.peer_client_ca_file and not self.tls_certificate_file:
            raise Invalid("CHAPPE_PEER_CLIENT_CA_FILE needs CHAPPE_TLS_CERTIFICATE_FILE", code="invalid_setting")
        if self.peer_key_file and not self.peer_certificate_file:
            raise Invalid("CHAPPE_PEER_KEY_FILE needs CHAPPE_PEER_CERTIFICATE_FILE", code="invalid_setting")

    @property
    def content_path(self) -> Path:
        """The content store's database."""
        return Path(self.content_dir or Path(self.spool_dir) / "content") / "content.sqlite"
