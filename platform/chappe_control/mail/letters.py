"""A letter: what it says, and how that becomes mail that programs of every age can show.

One content, two forms: plain text, and HTML without pictures, scripts or anything that a reader's program would fetch.
So nobody learns that it was opened.
"""

from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import cache
from pathlib import Path
from uuid import UUID

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from msgspec import Struct

from chappe_kernel.errors import Invalid
from chappe_tenants.naming import clean_email

_HERE = Path(__file__).parent


class Action(Struct, frozen=True):
    """The one thing to do: a button in HTML, an address of its own line in text."""

    label: str
    url: str


class Attachment(Struct, frozen=True):
    """A file beside the text, byte for byte. `name` is ASCII, `media_type` like `application/pdf`."""

    name: str
    media_type: str
    content: bytes


class Letter(Struct, frozen=True):
    """In the reader's language. What somebody typed has no place in it, or next to none: whoever signs up under a
    stranger's address must not be able to send them a text in our name."""

    subject: str
    paragraphs: tuple[str, ...]
    action: Action | None = None
    notes: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()


def parse_sender(text: str) -> Address:
    """`Chappe <no-reply@chappe.example>`, or the address alone. Raises `Invalid`."""
    name, bracket, rest = text.rpartition("<")
    try:
        address = clean_email(rest.removesuffix(">") if bracket else rest)
    except Invalid:
        address = ""
    if not address or not name.isprintable():
        raise Invalid(
            "CHAPPE_MAIL_FROM must be like Chappe <no-reply@chappe.example>",
            code="invalid_setting",
            param="CHAPPE_MAIL_FROM",
        )
    return Address(display_name=name.strip().strip('"'), addr_spec=address)


def write_message(
    letter: Letter, *, sender: Address, to: str, language: str, message_id: UUID, written_at: datetime
) -> EmailMessage:
    """The same `message_id` each time that it is sent, so that a reader's program may notice a repetition."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = Address(addr_spec=to)
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(written_at)
    message["Message-ID"] = f"<{message_id}@{sender.domain}>"
    # RFC 3834: no automatic answer to this, please. The second is what Exchange heeds.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(as_text(letter), cte="quoted-printable")
    message.add_alternative(as_html(letter, language), subtype="html", cte="quoted-printable")
    for one in letter.attachments:
        maintype, _, subtype = one.media_type.partition("/")
        message.add_attachment(one.content, maintype=maintype, subtype=subtype, filename=one.name)
    # Last: an attachment would take it for the text's own and move it there.
    message["Content-Language"] = language
    return message


def as_text(letter: Letter) -> str:
    """Paragraphs as single lines: programs break them where their window ends."""
    action = [f"{letter.action.label}:\n{letter.action.url}"] if letter.action else []
    return "\n\n".join([*letter.paragraphs, *action, *letter.notes, "-- \nChappe"]) + "\n"


def as_html(letter: Letter, language: str) -> str:
    return _template().render(letter=letter, language=language)


@cache
def _template() -> Template:
    # Beside this file and not among the pages' templates: mail needs styles in its elements, which pages must not have.
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("letter.html")
