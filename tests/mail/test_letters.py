"""Letters are whole in text and in HTML, in every language, and fetch nothing when they are opened."""

import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from html.parser import HTMLParser
from uuid import UUID

import pytest

from chappe_control.mail.letters import Action, Letter, as_html, as_text, parse_sender, write_message
from chappe_control.mail.orders import Order
from chappe_control.pages.languages import LANGUAGES
from chappe_control.sign_in import letters as sign_in
from chappe_kernel.errors import Invalid
from chappe_store.session import Database

URLS = {
    name: f"https://portal.example/{name}?link=s" for name in ("sign_up_url", "sign_in_url", "reset_url", "forgot_url")
}
LETTER = Letter("A & B", ("One <b>two</b>.",), Action("Go", "https://portal.example/?a=1&b=2"), ("Small.",))
ID = UUID(int=7)
NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)


class _Seen(HTMLParser):
    """What a reader's program would show, and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def see(html: str) -> _Seen:
    seen = _Seen()
    seen.feed(html)
    return seen


def message(letter: Letter = LETTER, to: str = "mia@example.eu") -> bytes:
    sender = parse_sender("Société <no-reply@chappe.example>")
    made = write_message(letter, sender=sender, to=to, language="fr", message_id=ID, written_at=NOW)
    return made.as_bytes()


def test_both_forms_say_the_same() -> None:
    shown = see(as_html(LETTER, "en")).text
    for text in (LETTER.subject, *LETTER.paragraphs, "Go", "https://portal.example/?a=1&b=2", *LETTER.notes):
        assert text in shown
        assert text in as_text(LETTER) or text == LETTER.subject


def test_html_fetches_nothing_and_runs_nothing() -> None:
    seen = see(as_html(LETTER, "en"))
    assert {tag for tag, _ in seen.tags} <= {
        *("html", "head", "meta", "title", "body", "table", "tr", "td", "h1", "p", "a")
    }
    names = {name for _, attributes in seen.tags for name in attributes}
    assert not names & {"src", "srcset", "background", "onload", "onclick"}
    assert "url(" not in as_html(LETTER, "en")
    assert [attributes["href"] for tag, attributes in seen.tags if tag == "a"] == ["https://portal.example/?a=1&b=2"]


def test_headers_are_what_mail_programs_and_their_robots_expect() -> None:
    read = message_from_bytes(message(), policy=policy.default)
    assert read["To"] == "mia@example.eu"
    assert str(read["From"]) == "Société <no-reply@chappe.example>"
    assert read["Message-ID"] == f"<{ID}@chappe.example>"
    assert read["Auto-Submitted"] == "auto-generated"
    assert read["Content-Language"] == "fr"
    assert read["Date"].datetime == NOW
    assert [part.get_content_type() for part in read.iter_parts()] == ["text/plain", "text/html"]
    assert all(len(line) <= 998 and b"\0" not in line and max(line, default=0) < 128 for line in message().split(b"\n"))


def test_a_letter_is_the_same_each_time_that_it_is_sent() -> None:
    first, second = (re.sub(rb"===============\d+==", b"", message()) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("text", ["Two\r\nBcc: all@example.eu", "Two\nlines", "Two\rlines"])
def test_no_subject_adds_a_header(text: str) -> None:
    with pytest.raises(ValueError, match="Header values may not contain"):
        message(Letter(text, ("x",)))


@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_letter_is_whole_in_every_language(database: Database, language: str) -> None:
    english: dict[str, Letter] = {}
    for kind, write in sign_in.WRITERS.items():
        letter = await write(database, Order(kind, "nobody@example.eu", language, URLS))
        if kind == sign_in.Kind.RESET:
            assert letter is None, "nobody has this address"
            continue
        assert letter is not None and letter.action is not None
        assert letter.action.url in URLS.values()
        own = await write(database, Order(kind, "nobody@example.eu", "en", URLS))
        assert own is not None
        english[kind] = own
        texts = (letter.subject, *letter.paragraphs, letter.action.label, *letter.notes)
        assert all(texts)
        assert language == "en" or not set(texts) & {own.subject, *own.paragraphs, *own.notes}
        message(letter)
    assert len({letter.subject for letter in english.values()}) == len(english)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Chappe <no-reply@chappe.example>", "no-reply@chappe.example"),
        ("no-reply@chappe.example", "no-reply@chappe.example"),
        ('"Chappe, by telco" <a@b.example>', "a@b.example"),
    ],
)
def test_senders_are_read(text: str, address: str) -> None:
    assert parse_sender(text).addr_spec == address


@pytest.mark.parametrize("text", ["", "Chappe", "Chappe <>", "a@", "@b", "a b@c", "é@b.example", "a@b\r\nX: y"])
def test_what_is_no_sender_stops_the_start(text: str) -> None:
    with pytest.raises(Invalid, match="CHAPPE_MAIL_FROM"):
        parse_sender(text)


def test_every_kind_has_its_writer() -> None:
    assert set(sign_in.WRITERS) == set(sign_in.Kind)
