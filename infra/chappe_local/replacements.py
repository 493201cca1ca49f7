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
    cell_redis_urls: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_replacements(environ: Mapping[str, str], cells: Sequence[Cell]) -> Replacements:
    """CHAPPE_DATABASE_URL with CHAPPE_DATABASE_OWNER_URL and perhaps CHAPPE_DATABASE_BACKUP_URL, CHAPPE_REDIS_URL,
    CHAPPE_<REGION>_REDIS_URL, CHAPPE_SMTP_URL with CHAPPE_MAIL_FROM.

    Raises `Invalid` when one of the two database URLs stands alone: migrations need the owner; and for a mail server
    without a sender, which it would not believe.
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
    return Replacements(url, owner_url, backup_url, redis_url, smtp_url, mail_from, cell_urls)
