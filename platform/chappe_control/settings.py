"""What the control plane reads from its environment."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from chappe_kernel.errors import Invalid
from chappe_kernel.money import NANO_PER_UNIT
from chappe_kernel.networks import parse_networks

_LOWEST_PRIORITY = 19


@dataclass(frozen=True)
class DatabaseSettings:
    """Commands that only need the database."""

    database_url: str = field(repr=False)


@dataclass(frozen=True)
class SeedSettings:
    """`key_peppers` is `1:<base64>,2:<base64>`; new keys are stored under the newest version."""

    database_url: str = field(repr=False)
    key_peppers: str = field(repr=False)
    welcome_credit_nano: int = 10 * NANO_PER_UNIT


@dataclass(frozen=True, kw_only=True)
class WorkSettings:
    """What both `chappe control` and `chappe worker` read; give both the same.

    `audit_keys` is `1:<base64>,2:<base64>`, Ed25519 private keys of 32 bytes; the newest signs the audit log's
    checkpoints, one every `audit_checkpoint_s` in which something changed. What somebody with the database's highest
    rights changes is found for certain only if it was signed before, so this is how long they have. A control plane
    without `works` needs none.

    `usage_months` is how many whole months of usage events are kept before the present one, once nobody needs them any
    more; 0 keeps all. Sums by minute are kept for `usage_minute_days`. What either summed to by hour stays for ever.

    Mail goes out through `smtp_url` (`smtps://user:password@host:465`, `smtp+starttls://…:587`, or `smtp://relay:25`),
    from `mail_from` (`Chappe <no-reply@chappe.example>`). Without them nobody can sign up or choose a new password.

    `portal_url` is the one address of portal and console: scheme and host, as browsers write an origin.

    With `stripe_api_key` tenants of legal entities that collect by `stripe` can pay; without it nothing of Stripe is
    built or called. Webhooks are believed by `stripe_webhook_secret` alone, and without one none is. `stripe_api_base`
    is another address than Stripe's own (a stand-in's), `stripe_account` the one account whose events are taken,
    `stripe_meter_event` the meter event by which Stripe is told of each day's usage, if there is any.
    A top-up is between `top_up_least_nano` and `top_up_most_nano`, without tax.

    What is posted goes into the rated-usage feed `feed_every_s`, in batches of about `feed_records`. They are written
    into `feed_folder`; without one the API alone has them.

    `vies_url` is the REST interface that VAT numbers are checked with, the Commission's being
    `https://ec.europa.eu/taxation_customs/vies/rest-api`; without it nobody is asked, and the operator says by hand
    which numbers are confirmed. A number is asked about again `vat_recheck_days` after its last answer.

    Tenants' webhooks go to public addresses over https alone. For development `webhooks_to_loopback` lets them go to
    this machine too, over http: never set it where others have an account.
    """

    database_url: str = field(repr=False)
    key_peppers: str = field(repr=False)
    audit_keys: str = field(default="", repr=False)
    audit_checkpoint_s: float = 60.0
    usage_months: int = 0
    usage_minute_days: int = 35
    smtp_url: str = field(default="", repr=False)
    mail_from: str = ""
    portal_url: str = ""
    stripe_api_key: str = field(default="", repr=False)
    stripe_webhook_secret: str = field(default="", repr=False)
    stripe_api_base: str = ""
    stripe_account: str = ""
    stripe_meter_event: str = ""
    top_up_least_nano: int = 5 * NANO_PER_UNIT
    top_up_most_nano: int = 10_000 * NANO_PER_UNIT
    feed_folder: str = ""
    feed_every_s: float = 60.0
    feed_records: int = 10_000
    vies_url: str = ""
    vat_recheck_days: int = 90
    webhooks_to_loopback: bool = False

    def __post_init__(self) -> None:
        """Raises `Invalid` for a `portal_url` that no browser would send as an origin, for mail from nobody, and for
        VAT settings that cannot be meant."""
        if self.vies_url and urlsplit(self.vies_url).scheme not in {"http", "https"}:
            raise Invalid(
                "CHAPPE_VIES_URL must be like https://host/path", code="invalid_setting", param="CHAPPE_VIES_URL"
            )
        if self.vat_recheck_days < 1:
            raise Invalid(
                "CHAPPE_VAT_RECHECK_DAYS is at least 1", code="invalid_setting", param="CHAPPE_VAT_RECHECK_DAYS"
            )
        if not _is_origin(self.portal_url):
            raise Invalid(
                "CHAPPE_PORTAL_URL must be like https://portal.example, in lower case, without a path",
                code="invalid_setting",
                param="CHAPPE_PORTAL_URL",
            )
        if self.smtp_url and not self.mail_from:
            raise Invalid("CHAPPE_SMTP_URL needs CHAPPE_MAIL_FROM", code="missing_setting", param="CHAPPE_MAIL_FROM")


@dataclass(frozen=True, kw_only=True)
class WorkerSettings(WorkSettings):
    """`heartbeat_file` is touched every two seconds in which the database answered: whoever supervises a worker sees by
    its age that it lives. Pages go before work: its CPU priority is lower by `niceness` (0 to 19)."""

    heartbeat_file: str = ""
    niceness: int = 10

    def __post_init__(self) -> None:
        """Raises `Invalid` also for a `niceness` that is none, and without `audit_keys`."""
        _expect_audit_keys(self)
        if not 0 <= self.niceness <= _LOWEST_PRIORITY:
            raise Invalid("CHAPPE_NICENESS is 0 to 19", code="invalid_setting", param="CHAPPE_NICENESS")
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class ControlSettings(WorkSettings):
    """With `works` the control plane also does what nobody waits for (`works.py`); without it `chappe worker` does.

    The three durations of a grant count from the moment that the gateway asked, on its own clock. For a tenant with
    a contract and a credit limit `grant_postpaid_admit_s` is the first, if it is longer, and the others follow as much
    later: so long, up to a day, its requests go on in a cell that is cut off, if the snapshot may be that old.

    `management_calls_per_minute` is per key, `failed_sign_ins_per_minute` per client address (of IPv6 the /64): of
    programs with a wrong key. People with a wrong password are bounded by `sign_in_failures_per_minute` per address
    and, once an account has seen `account_failures_per_minute` from anywhere, by one per address on that account.
    `leak_reports_per_minute` is per client address: whoever reports more found a list, and can go on next minute.

    A new organisation that signs up pays in `sign_up_currency` and gets `sign_up_requests_per_minute` in each region.
    With `sign_up_review` it only applies: it calls no model until the operator has verified and activated it.
    `links_per_minute` is how many links one address may ask for, to sign up or to choose a new password.

    `trusted_proxies` are the operator's own in front of the control plane, as networks with commas between. What they
    say in `X-Forwarded-For` of where a call comes from is believed, and nobody else's word is.
    """

    redis_url: str = field(repr=False)
    port: int
    host: str = "127.0.0.1"
    works: bool = True
    welcome_credit_nano: int = 10 * NANO_PER_UNIT
    grant_admit_s: float = 30.0
    grant_settle_s: float = 180.0
    grant_release_s: float = 200.0
    grant_postpaid_admit_s: float = 300.0
    snapshot_max_age_s: float = 300.0
    management_calls_per_minute: int = 1200
    failed_sign_ins_per_minute: int = 120
    leak_reports_per_minute: int = 60
    sign_up_open: bool = True
    sign_up_review: bool = False
    sign_up_currency: str = "EUR"
    sign_up_requests_per_minute: int = 600
    links_per_minute: int = 20
    sign_in_failures_per_minute: int = 10
    account_failures_per_minute: int = 20
    trusted_proxies: str = ""

    def __post_init__(self) -> None:
        """Raises `Invalid` also for `trusted_proxies` that are no networks, and for work without `audit_keys`."""
        parse_networks(self.trusted_proxies)
        if self.works:
            _expect_audit_keys(self)
        object.__setattr__(self, "portal_url", self.portal_url or f"http://localhost:{self.port}")
        super().__post_init__()


def _expect_audit_keys(settings: WorkSettings) -> None:
    if not settings.audit_keys:
        raise Invalid("the environment lacks CHAPPE_AUDIT_KEYS", code="missing_setting", param="CHAPPE_AUDIT_KEYS")


def _is_origin(url: str) -> bool:
    try:
        parts = urlsplit(url)
        default_port = {"http": 80, "https": 443}.get(parts.scheme)
        plain = parts.hostname is not None and parts.username is None and parts.port != default_port
    except ValueError:
        return False
    return plain and default_port is not None and url == f"{parts.scheme}://{parts.netloc}" and url == url.lower()
