"""Certificates as a hospital has them: an authority of its own, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """file: its own certificate, PEM, which clients are given."""

    folder: Path
    file: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, folder: Path, name: str = "Hospital") -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        about = _about(name, name, key).add_extension(x509.BasicConstraints(True, None), critical=True)
        certificate = about.sign(key, hashes.SHA256())
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{name}.pem"
        file.write_bytes(_pem(certificate))
        return cls(folder, file, certificate, key)

    def sign(self, host: str) -> tuple[Path, Path]:
        """Certificate and key of a server at the address `host`, PEM files."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        address = x509.IPAddress(ipaddress.ip_address(host))
        about = _about(host, str(issuer), key).add_extension(
            x509.SubjectAlternativeName([address]), critical=False
        )
        names = self.folder / f"{host}.crt", self.folder / f"{host}.key"
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        for path, content in zip(names, (_pem(about.sign(self.key, hashes.SHA256())), secret), strict=True):
            path.write_bytes(content)
        return names


def _about(name: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
