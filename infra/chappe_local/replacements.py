"""Services of the user's own that take the place of embedded ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chappe_kernel.errors import Invalid
from chappe_local.manifest import Cell


@dataclass(frozen=True)
class Replacements:
    """URLs from the environment; a service without one is embedded."""

    database_url: str | None = field(default=None, repr=False)
    database_owner_url: str | None = field(default=None, repr=False)
    database_backup_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    smtp_url: str | None = field(default=None, repr=False)
    mail_from: str | None = None
    stripe_api_key: str | None = field(default=None, repr=False)
    stripe_webhook_secret: str | None = field(default=None, repr=False)
    cell_redis_urls: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_replacements(environ: Mapping[str, str], cells: Sequence[Cell]) -> Replacements:
    """CHAPPE_DATABASE_URL with CHAPPE_DATABASE_OWNER_URL and perhaps CHAPPE_DATABASE_BACKUP_URL, CHAPPE_REDIS_URL,
    CHAPPE_<REGION>_REDIS_URL, CHAPPE_SMTP_URL with CHAPPE_MAIL_FROM, STRIPE_API_KEY and perhaps STRIPE_WEBHOOK_SECRET.

    Raises `Invalid` when one of the two database URLs stands alone: migrations need the owner; for a mail server
    without a sender, which it would not believe; and for a webhook secret of a Stripe that is not named.
    """
    url = environ.get("CHAPPE_DATABASE_URL") or None
    owner_url = environ.get("CHAPPE_DATABASE_OWNER_URL") or None
    if (url is None) != (owner_url is None):
        raise Invalid("CHAPPE_DATABASE_URL and CHAPPE_DATABASE_OWNER_URL must be set together")
    variables = {cell.name: f"CHAPPE_{cell.variable}_REDIS_URL" for cell in cells}
    cell_urls = {name: environ[variable] for name, variable in variables.items() if environ.get(variable)}
    smtp_url, mail_from = environ.get("CHAPPE_SMTP_URL") or None, environ.get("CHAPPE_MAIL_FROM") or None
    if smtp_url and not mail_from:
        raise Invalid("CHAPPE_SMTP_URL and CHAPPE_MAIL_FROM must be set together")
    backup_url = environ.get("CHAPPE_DATABASE_BACKUP_URL") or None
    redis_url = environ.get("CHAPPE_REDIS_URL") or None
    stripe_key, webhook_secret = environ.get("STRIPE_API_KEY") or None, environ.get("STRIPE_WEBHOOK_SECRET") or None
    if webhook_secret and not stripe_key:
        raise Invalid("STRIPE_WEBHOOK_SECRET goes with STRIPE_API_KEY")
    return Replacements(
        url, owner_url, backup_url, redis_url, smtp_url, mail_from, stripe_key, webhook_secret, cell_urls
    )
