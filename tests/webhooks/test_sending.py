"""DNS rebinding, redirects and slow answers: a request goes to an address that was checked, once, within bounds."""

import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chappe_control.webhooks.addresses import is_loopback, is_public
from chappe_control.webhooks.sending import Sender, make_sender
from chappe_control.webhooks.target import Target, parse_target
from chappe_kernel.networks import Address
from tests.webhooks.receiver import receiving

_HERE = ipaddress.ip_address("127.0.0.1")
_NAME = "hooks.example.org"


class Names:
    """A resolver that gives another answer each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> Sequence[Address]:
        self.asked.append(host)
        return [ipaddress.ip_address(text) for text in self._answers.pop(0)]


def here(port: int, path: str = "/") -> Target:
    return Target(is_tls=False, host=_NAME, port=port, path=path)


async def test_a_request_arrives_whole() -> None:
    sender = Sender(allows=is_loopback, resolve=Names(["127.0.0.1"]))
    async with receiving() as receiver:
        answer = await sender.post(here(receiver.port, "/a?b=c"), b'{"x":1}', {"webhook-id": "evt_1"})
    (taken,) = receiver.taken
    assert (answer.status, answer.error, answer.is_taken) == (204, None, True)
    assert (taken.line, taken.body, taken.headers["webhook-id"]) == ("POST /a?b=c HTTP/1.1", b'{"x":1}', "evt_1")
    assert taken.headers["host"] == f"{_NAME}:{receiver.port}"


async def test_a_name_that_answers_otherwise_a_moment_later_is_asked_once() -> None:
    """DNS rebinding: what was checked is what is connected to."""
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    sender = Sender(allows=is_loopback, resolve=names)
    async with receiving() as receiver:
        assert (await sender.post(here(receiver.port), b"{}", {})).is_taken
    assert names.asked == [_NAME]
    assert (await sender.post(here(receiver.port), b"{}", {})).error == "address_not_public"


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], []]
)
async def test_one_internal_address_refuses_the_name(addresses: list[str]) -> None:
    sender = Sender(allows=is_public, resolve=Names(addresses))
    async with receiving() as receiver:
        answer = await sender.post(here(receiver.port), b"{}", {})
    assert (answer.error, answer.status, receiver.connections) == ("address_not_public", None, 0)


async def test_the_systems_own_resolver_is_checked_too() -> None:
    """`localhost` by its name, through the real look-up."""
    async with receiving() as receiver:
        target = Target(is_tls=False, host="localhost", port=receiver.port, path="/")
        assert (await make_sender(to_loopback=False).post(target, b"{}", {})).error == "address_not_public"
        assert (await make_sender(to_loopback=True).post(target, b"{}", {})).is_taken
    assert receiver.connections == 1


async def test_no_redirect_is_followed() -> None:
    sender = make_sender(to_loopback=True)
    async with receiving() as inner, receiving() as outer:
        outer.answers.append(f"HTTP/1.1 307 Away\r\nLocation: http://127.0.0.1:{inner.port}/\r\n\r\n".encode())
        answer = await sender.post(parse_target(f"http://127.0.0.1:{outer.port}/", to_loopback=True), b"{}", {})
    assert (answer.status, answer.is_taken, inner.connections) == (307, False, 0)


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        sender = Sender(allows=is_loopback, resolve=Names(["127.0.0.1"]))
        assert (await sender.post(here(receiver.port), b"{}", {})).is_taken
    assert proxy.connections == 0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, "timed_out"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 300_000, "no_answer"),
        (b"SSH-2.0-x\r\n\r\n", "no_answer"),
        (b"", "no_answer"),
    ],
)
async def test_an_answer_is_bounded_in_time_and_bytes(answer: bytes | None, error: str) -> None:
    sender = Sender(allows=is_loopback, resolve=Names(["127.0.0.1"]), timeout_s=0.3)
    async with receiving() as receiver:
        receiver.answers.append(answer)
        assert (await sender.post(here(receiver.port), b"{}", {})).error == error


async def test_a_body_without_end_is_not_read() -> None:
    sender = Sender(allows=is_loopback, resolve=Names(["127.0.0.1"]))
    async with receiving() as receiver:
        receiver.answers.append(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n" + b"a" * 100_000)
        assert (await sender.post(here(receiver.port), b"{}", {})).status == 200


async def test_nobody_listening_is_an_error_and_no_exception() -> None:
    async with receiving() as receiver:
        pass
    sender = Sender(allows=is_loopback, resolve=Names(["127.0.0.1"]))
    assert (await sender.post(here(receiver.port), b"{}", {})).error == "not_reached"


async def test_tls_asks_for_the_name_and_takes_no_others_certificate(tmp_path: Path) -> None:
    """The address is pinned, and SNI and certificate are still the name's."""
    server, trust = certificate(tmp_path, _NAME)
    async with receiving(server) as receiver:
        named = Sender(allows=is_loopback, resolve=Names(["127.0.0.1"]), context=trust)
        assert (await named.post(Target(True, _NAME, receiver.port, "/"), b"{}", {})).is_taken
        other = Sender(allows=is_loopback, resolve=Names(["127.0.0.1"]), context=trust)
        answer = await other.post(Target(True, "other.example.org", receiver.port, "/"), b"{}", {})
    assert (answer.error, len(receiver.taken)) == ("tls_failed", 1)
    assert receiver.names == [_NAME, "other.example.org"]


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of this name, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    trust = ssl.create_default_context(cadata=signed.public_bytes(serialization.Encoding.PEM).decode())
    return server, trust
