"""The mail server's URL says how the connection is protected, and a wrong one stops the start in one sentence."""

import pytest

from chappe_control.mail.smtp import Security, SmtpServer, parse_smtp_url
from chappe_kernel.errors import Invalid


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtps://mail.example", SmtpServer("mail.example", 465, Security.TLS)),
        ("smtp+starttls://mail.example/", SmtpServer("mail.example", 587, Security.STARTTLS)),
        ("smtp://relay", SmtpServer("relay", 25, Security.NONE)),
        ("smtp://127.0.0.1:8401", SmtpServer("127.0.0.1", 8401, Security.NONE)),
        ("smtps://u%40x:p%3Aw@mail.example:4650", SmtpServer("mail.example", 4650, Security.TLS, "u@x", "p:w")),
        ("smtp://u:p@localhost", SmtpServer("localhost", 25, Security.NONE, "u", "p")),
        ("smtp://u:p@[::1]:26", SmtpServer("::1", 26, Security.NONE, "u", "p")),
    ],
)
def test_a_url_is_read(url: str, server: SmtpServer) -> None:
    assert parse_smtp_url(url) == server


@pytest.mark.parametrize(
    "url",
    [
        "mail.example",
        "http://mail.example",
        "smtp://",
        "smtp://mail.example:port",
        "smtp://mail.example:99999",
        "smtps://mail.example/path",
        "smtps://mail.example?x=1",
        "smtp://hidden-user:hidden-password@mail.example",
        "smtp://hidden-user:hidden-password@127.0.0.1.example",
    ],
)
def test_a_wrong_one_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(Invalid, match="CHAPPE_SMTP_URL is wrong") as caught:
        parse_smtp_url(url)
    assert "hidden" not in caught.value.message
    assert caught.value.param == "CHAPPE_SMTP_URL"


def test_a_password_is_in_no_representation() -> None:
    assert "s3cret" not in repr(parse_smtp_url("smtps://u:s3cret@mail.example"))
