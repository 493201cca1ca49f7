"""What the control planes of a test process send: caught on the loopback, and read by whoever it was for.

One for the process and not one for each suite: whoever signs up knows their address, and nothing of who runs the site.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session

from chappe_local.mail_catcher import catching, content_of

MAIL_FROM = "Chappe <no-reply@chappe.example>"
_WITHIN_S = 20.0
_LINK = re.compile(r"https?://\S+")

_letters: dict[str, list[EmailMessage]] = defaultdict(list)
_arrivals: dict[str, asyncio.Event] = defaultdict(asyncio.Event)


class _Keeper:
    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        for recipient in envelope.rcpt_tos:
            message = message_from_bytes(content_of(envelope), policy=policy.default)
            _letters[recipient].append(message)
            _arrivals[recipient].set()
        return "250 OK"


@asynccontextmanager
async def receiving() -> AsyncIterator[str]:
    """A mail server, for as long as the block runs: its URL, for `ControlSettings.smtp_url`."""
    async with catching(_Keeper(), 0) as port:
        yield f"smtp://127.0.0.1:{port}"


def letters_to(address: str) -> list[EmailMessage]:
    """All that came until now, oldest first."""
    return _letters[address.lower()]


async def letter_to(address: str, *, after: int = 0) -> EmailMessage:
    """The next letter to this address, when `after` of them are known already."""
    address = address.lower()
    async with asyncio.timeout(_WITHIN_S):
        while len(_letters[address]) <= after:
            _arrivals[address].clear()
            await _arrivals[address].wait()
    return _letters[address][after]


def text_of(letter: EmailMessage) -> str:
    part = letter.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def link_in(letter: EmailMessage) -> str:
    """The one link that it holds."""
    (link,) = _LINK.findall(text_of(letter))
    return str(link)
