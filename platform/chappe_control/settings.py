"""What the control plane reads from its environment."""

from dataclasses import dataclass, field

from chappe_kernel.money import NANO_PER_UNIT


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


@dataclass(frozen=True)
class ControlSettings:
    """The three durations of a grant count from the moment that the gateway asked, on its own clock.

    `management_calls_per_minute` is per key, `failed_sign_ins_per_minute` per client address (of IPv6 the /64).
    """

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    key_peppers: str = field(repr=False)
    port: int
    host: str = "127.0.0.1"
    welcome_credit_nano: int = 10 * NANO_PER_UNIT
    grant_admit_s: float = 30.0
    grant_settle_s: float = 180.0
    grant_release_s: float = 200.0
    snapshot_max_age_s: float = 300.0
    management_calls_per_minute: int = 1200
    failed_sign_ins_per_minute: int = 120
