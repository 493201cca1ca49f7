"""The catcher takes all mail, keeps it to its owner, and shows it to nobody but this machine's own programs."""

import asyncio
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from chappe_local import mail_folder
from chappe_local.mail_catcher import KeepAll, catching
from chappe_local.mail_folder import MailFolder
from chappe_local.mail_page import make_page

LINK = "https://portal.example/x?link=abc"


def letter(subject: str = "Grüße", to: str = "mia@example.eu") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "no-reply@chappe.example", to, subject
    message.set_content(f"Héllo:\n{LINK}\n")
    message.add_alternative(f'<p onclick="x()">Héllo <a href="{LINK}">x</a><script>x()</script>', subtype="html")
    return message


async def send(folder: MailFolder, *messages: EmailMessage, to: str = "mia@example.eu") -> None:
    async with catching(KeepAll(folder), 0) as port:

        def speak() -> None:
            with smtplib.SMTP("127.0.0.1", port) as smtp:
                for message in messages:
                    smtp.send_message(message, to_addrs=[to])

        await asyncio.to_thread(speak)


def modes_in(path: Path) -> set[int]:
    return {entry.stat().st_mode & 0o777 for entry in path.iterdir()}


@asynccontextmanager
async def page(folder: MailFolder) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(cast("Any", make_page(folder)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8402") as client:
        yield client


async def test_what_is_sent_is_kept_and_shown_newest_first(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path)
    await send(folder, letter("First"), letter("Second"))
    assert modes_in(tmp_path) == {0o600}
    async with page(folder) as client:
        shown = (await client.get("/")).text
        assert shown.index("Second") < shown.index("First")
        newest, oldest = (await client.get("/api/letters")).json()
        assert (newest["subject"], newest["to"], newest["links"]) == ("Second", ["mia@example.eu"], [LINK])
        one = await client.get(f"/letters/{oldest['id']}")
        assert "First" in one.text and "Héllo" in one.text and f'href="{LINK}"' in one.text


async def test_attachments_are_listed_and_kept_byte_for_byte(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path)
    files = {"R-1.pdf": b"%PDF-\x00\xff\r\n\n", "a b/../<x>.html": b"<script>x()</script>"}
    message = letter()
    for name, content in files.items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    await send(folder, message)
    async with page(folder) as client:
        (shown,) = (await client.get("/api/letters")).json()
        assert shown["attachments"] == list(files)
        assert "R-1.pdf" in (await client.get("/")).text
        one = (await client.get(f"/letters/{shown['id']}")).text
        assert "R-1.pdf" in one and "<x>" not in one
        for number, content in enumerate(files.values()):
            answer = await client.get(f"/letters/{shown['id']}/attachments/{number}")
            assert answer.content == content
            assert answer.headers["content-disposition"].startswith("attachment;")
            assert answer.headers["content-type"] == "application/octet-stream"
        assert (await client.get(f"/letters/{shown['id']}/attachments/2")).status_code == 404


async def test_whose_mail_it_is_says_the_envelope(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path)
    forged = letter(to="bob@example.eu")
    forged["X-Envelope-To"] = "bob@example.eu"
    await send(folder, forged, to="mia@example.eu")
    async with page(folder) as client:
        assert len((await client.get("/api/letters", params={"to": "mia@example.eu"})).json()) == 1
        assert (await client.get("/api/letters", params={"to": "bob@example.eu"})).json() == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8402", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1"]
)
async def test_a_page_that_points_its_name_here_gets_nothing(tmp_path: Path, host: str) -> None:
    folder = MailFolder(tmp_path)
    await send(folder, letter())
    async with page(folder) as client:
        for path in ("/", "/api/letters", f"/letters/{next(folder.newest_first()).name}"):
            answer = await client.get(path, headers={"host": host, "x-forwarded-host": "localhost"})
            assert answer.status_code == 403
            assert "Grüße" not in answer.text


async def test_a_letters_html_runs_and_fetches_nothing(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path)
    await send(folder, letter("<b>Bold</b>"))
    name = next(folder.newest_first()).name
    async with page(folder) as client:
        html = await client.get(f"/letters/{name}/html")
        policy = html.headers["content-security-policy"]
        assert "sandbox allow-popups " in policy and "default-src 'none'" in policy and "allow-scripts" not in policy
        for path in ("/", f"/letters/{name}"):
            shown = await client.get(path)
            assert "<b>Bold" not in shown.text
            assert "'unsafe-inline'" not in shown.headers["content-security-policy"]


@pytest.mark.parametrize("name", ["nothing", "..%2f..%2fsecrets", "%00", "é"])
async def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "mail"
    folder.mkdir()
    (tmp_path / "secrets.eml").write_text("Subject: secret\n\nsecret")
    async with page(MailFolder(folder)) as client:
        answer = await client.get(f"/letters/{name}")
        assert answer.status_code == 404
        assert "secret" not in answer.text.replace("secrets", "")


async def test_only_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_folder, "_KEPT", 3)
    folder = MailFolder(tmp_path)
    await send(folder, *(letter(f"Letter {number}") for number in range(5)))
    assert [one.subject for one in folder.newest_first()] == ["Letter 4", "Letter 3", "Letter 2"]


async def test_a_letter_without_any_part_is_shown_too(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path)
    folder.keep(b"", ["mia@example.eu"])
    folder.keep(b"Subject: =?utf-8?q?broken\r\n\r\n\xff\xfe\x00", ["mia@example.eu"])
    async with page(folder) as client:
        assert (await client.get("/")).status_code == 200
        for one in folder.newest_first():
            assert (await client.get(f"/letters/{one.name}")).status_code == 200
