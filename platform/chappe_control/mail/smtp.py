"""The way out: one SMTP server, which takes mail to anybody."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from enum import StrEnum
from typing import NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

import aiosmtplib

from chappe_kernel.errors import Invalid

_TIMEOUT_S = 20.0
_PERMANENT = 500


class Security(StrEnum):
    """How the connection is protected, by the URL's scheme."""

    NONE = "smtp"
    STARTTLS = "smtp+starttls"
    TLS = "smtps"


_PORTS: Mapping[Security, int] = {Security.NONE: 25, Security.STARTTLS: 587, Security.TLS: 465}


class NotTaken(Exception):
    """The server did not take a letter. `permanent`: it never will. `reason` holds no address and no text of it."""

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


@dataclass(frozen=True)
class SmtpServer:
    """Where mail is handed over, and how. One connection per letter: they are few, and none holds up another."""

    host: str
    port: int
    security: Security
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    async def send(self, message: EmailMessage, *, sender: str, to: str) -> None:
        """Raises `NotTaken`."""
        try:
            await aiosmtplib.send(
                message,
                sender=sender,
                recipients=[to],
                hostname=self.host,
                port=self.port,
                username=self.user,
                password=self.password,
                use_tls=self.security is Security.TLS,
                start_tls=self.security is Security.STARTTLS,
                timeout=_TIMEOUT_S,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [refused.code for refused in error.recipients]
            raise NotTaken(f"recipient refused: {codes}", permanent=min(codes) >= _PERMANENT) from error
        except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
            raise NotTaken(f"{type(error).__name__}: {error.code}", permanent=error.code >= _PERMANENT) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            # Whatever else goes wrong is about the server or our settings, and not about this letter.
            raise NotTaken(type(error).__name__, permanent=False) from error


def parse_smtp_url(url: str) -> SmtpServer:
    """`smtps://user:password@host:465`, `smtp+starttls://…:587` or, to a relay that needs no name, `smtp://host:25`.

    Raises `Invalid`, without showing any of it; also for a password that would travel in the clear.
    """
    try:
        parts = urlsplit(url)
        security = Security(parts.scheme)
        port = parts.port or _PORTS[security]
    except ValueError:
        _refuse("it must be like smtps://user:password@host:465")
    if not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment:
        _refuse("it must be like smtps://user:password@host:465")
    if parts.username and security is Security.NONE and not _is_this_machine(parts):
        _refuse("a user and a password need smtps or smtp+starttls")
    return SmtpServer(parts.hostname, port, security, _plain(parts.username), _plain(parts.password))


def _is_this_machine(parts: SplitResult) -> bool:
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def _plain(quoted: str | None) -> str | None:
    return None if quoted is None else unquote(quoted)


def _refuse(why: str) -> NoReturn:
    raise Invalid(f"CHAPPE_SMTP_URL is wrong: {why}", code="invalid_setting", param="CHAPPE_SMTP_URL")
