"""What the application holds for as long as it runs."""

from dataclasses import dataclass

from litestar.di import NamedDependency

from chappe_billing.grants.terms import GrantTerms
from chappe_control.exports import Turns
from chappe_control.key_feed import KeyFeed
from chappe_control.mail.service import Mail
from chappe_control.payments.office import PaymentOffice
from chappe_control.settings import ControlSettings
from chappe_control.shortages import Shortages
from chappe_control.snapshot import SnapshotCache
from chappe_control.throttle import Throttle
from chappe_control.webhooks.sealing import SecretSeal
from chappe_kernel.api_keys import Pepper
from chappe_kernel.clock import Clock
from chappe_store.session import Database
from chappe_tenants.passwords import PasswordWork


@dataclass(frozen=True)
class Services:
    """Handed to handlers and guards; none of it belongs to one request."""

    settings: ControlSettings
    database: Database
    throttle: Throttle
    passwords: PasswordWork
    mail: Mail
    payments: PaymentOffice
    peppers: tuple[Pepper, ...]
    snapshots: SnapshotCache
    key_feed: KeyFeed
    shortages: Shortages
    terms: GrantTerms
    exports: Turns
    webhook_seal: SecretSeal
    clock: Clock


Given = NamedDependency[Services]
"""The type of a handler's argument `services`."""
