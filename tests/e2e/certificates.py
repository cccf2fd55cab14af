"""Authorities and certificates for tests of TLS, as PEM files."""

import datetime
import ipaddress
import os
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _san(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


class Authority:
    """Signs certificates; its own one is `pem`."""

    def __init__(self, name):
        self.name, self.key = name, ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(name, self.key.public_key(), [], True, (-1, 30))
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def _sign(self, name, public_key, sans, is_authority, days):
        now = datetime.datetime.utcnow()
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self.name))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName([_san(text) for text in sans]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name="server", sans=("127.0.0.1", "localhost"), days=(-1, 10)):
        """(certificate, private key) as PEM, valid from and to `days` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key.public_key(), sans, False, days)
        return (
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )


class Folder:
    """cert.pem, key.pem and ca.pem behind one symbolic link, changed all at once as Kubernetes changes a secret."""

    def __init__(self, path):
        self.path, self.generation = pathlib.Path(path), 0
        self.path.mkdir()
        self.cert, self.key, self.ca = (self.path / "now" / name for name in ("cert.pem", "key.pem", "ca.pem"))

    def put(self, pair=None, ca=None):
        """What is not given stays as it is."""
        before = self.path / "now"
        folder = self.path / f"generation{self.generation}"
        self.generation += 1
        folder.mkdir()
        for name, content in (("cert.pem", pair and pair[0]), ("key.pem", pair and pair[1]), ("ca.pem", ca)):
            if content is None and (before / name).exists():
                content = (before / name).read_bytes()
            if content is not None:
                (folder / name).write_bytes(content)
        link = self.path / "next"
        link.symlink_to(folder.name)
        os.replace(link, before)
        return self
