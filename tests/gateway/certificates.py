"""Certificates for 127.0.0.1: signed by nobody but themselves, or by an authority of the test's own."""

import ipaddress
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Certificate(NamedTuple):
    """Two PEM files."""

    certificate: Path
    key: Path


def new_certificate(folder: Path) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("127.0.0.1")
    certificate = (
        _begin(name, key)
        .issuer_name(name)
        .add_extension(_LOOPBACK, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _write(folder, "", certificate, key)


class Authority:
    """Signs others' certificates; its own is `file`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        own = (
            _begin(self._name, self._key)
            .issuer_name(self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = _write(folder, f"{name}-", own, self._key).certificate

    def issue(self, name: str, *, is_over: bool = False, for_servers_alone: bool = False) -> Certificate:
        """For 127.0.0.1, as a server and as a client. `is_over`: its time has passed."""
        key = ec.generate_private_key(ec.SECP256R1())
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, *([] if for_servers_alone else [ExtendedKeyUsageOID.CLIENT_AUTH])]
        certificate = (
            _begin(_name(name), key, is_over=is_over)
            .issuer_name(self._name)
            .add_extension(_LOOPBACK, critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _write(self._folder, f"{name}-{secrets.token_hex(4)}-", certificate, key)


_LOOPBACK = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _begin(name: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_over: bool = False) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=-1 if is_over else 1))
    )


def _write(folder: Path, prefix: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Certificate:
    made = Certificate(folder / f"{prefix}certificate.pem", folder / f"{prefix}key.pem")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made
