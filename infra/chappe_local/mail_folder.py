"""Letters that a local instance sent: kept as files, the newest few hundred, readable by their owner alone."""

import email
import email.policy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage, Message
from pathlib import Path
from uuid import UUID

from chappe_kernel.ids import new_id
from chappe_local.private_files import write_private

_KEPT = 500
_LINK = re.compile(r"https?://\S+")


@dataclass(frozen=True)
class Attached:
    """A file of a letter's, as it was sent."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class KeptLetter:
    """One letter as it came over SMTP. `name` sorts by the time at which it came."""

    name: str
    recipients: tuple[str, ...]
    message: EmailMessage

    @property
    def received_at(self) -> datetime:
        """In the name, which is a UUIDv7."""
        return datetime.fromtimestamp((UUID(self.name).int >> 80) / 1000, UTC)

    @property
    def subject(self) -> str:
        return str(self.message["Subject"] or "")

    @property
    def text(self) -> str:
        return self._part("plain")

    @property
    def html(self) -> str:
        return self._part("html")

    @property
    def links(self) -> list[str]:
        return _LINK.findall(self.text)

    @property
    def attachments(self) -> list["Attached"]:
        return [
            Attached(part.get_filename() or "file", part.get_content_type(), _bytes_of(part))
            for part in self.message.iter_attachments()
        ]

    def _part(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        return str(part.get_content()) if part is not None else ""


def _bytes_of(part: Message) -> bytes:
    """Nothing of what is no single file."""
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


class MailFolder:
    """`folder` must exist, and be closed to others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, content: bytes, recipients: list[str]) -> None:
        """The envelope's recipients stand in front: a letter's own headers may name others."""
        message = email.message_from_bytes(content, policy=email.policy.SMTP)
        del message["X-Envelope-To"]
        message["X-Envelope-To"] = ", ".join(recipients)
        write_private(self._folder / f"{new_id()}.eml", message.as_bytes())
        for path in self._paths()[_KEPT:]:
            path.unlink(missing_ok=True)

    def newest_first(self, recipient: str | None = None) -> Iterator[KeptLetter]:
        for path in self._paths():
            letter = self._read(path)
            if recipient is None or recipient in letter.recipients:
                yield letter

    def find(self, name: str) -> KeptLetter | None:
        """`name` is anybody's to send: it is compared, and never made part of a path."""
        return next((self._read(path) for path in self._paths() if path.stem == name), None)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.eml"), reverse=True)

    def _read(self, path: Path) -> KeptLetter:
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        recipients = tuple(str(message["X-Envelope-To"] or "").split(", "))
        return KeptLetter(path.stem, recipients, message)
