"""Certificates of a server and its users: made, written with permissions for the owner only, and read for Dask."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam2._errors import DeviceError, OutputError, warn_caller

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate
    from distributed import Security

__all__ = ["client_security", "make_certificates", "server_security"]

_DAYS_VALID = 3650
_CA, _SERVER, _CLIENT = "ca.pem", "server", "client"


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """Make a certificate authority, and with it certificates for a server and for its users.

    The key of the authority is not kept, so that no further certificates can be signed with it.

    Parameters
    ----------
    folder : Path
        New or empty.

    Returns
    -------
    tuple of Path
        The folder of the server, and the folder that users copy to their computers. Files can be read by their owner
        only.

    Raises
    ------
    OutputError
        If the folder holds files already, or cannot be written.
    DeviceError
        If the package cryptography is not installed.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ec
    except ModuleNotFoundError as error:
        raise DeviceError(
            "new certificates need the extra 'cluster'; install it with: pip install 'napari-sam2[cluster]'"
        ) from error
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("napari-sam2", ca_key, None)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise OutputError(f"{folder} already holds files; give the name of a new folder")
        folders = []
        for role in (_SERVER, _CLIENT):
            place = folder / role
            place.mkdir(parents=True, mode=0o700)
            key = ec.generate_private_key(ec.SECP256R1())
            _write(place / _CA, _pem(ca))
            _write(place / f"{role}.pem", _pem(_certificate(f"napari-sam2 {role}", key, (ca, ca_key))))
            _write(place / f"{role}-key.pem", _key_pem(key))
            folders.append(place)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{folder} cannot be written ({error.strerror or error}); choose another folder") from error
    return folders[0], folders[1]


def server_security(folder: Path) -> Security:
    """Certificates of a scheduler and its workers, from a folder made by `make_certificates`; raises DeviceError."""
    from distributed import Security

    place = folder / _SERVER if (folder / _SERVER).is_dir() else folder
    ca, certificate, key = _files(place, _SERVER)
    pairs = {f"tls_{who}_{what}": path for who in ("scheduler", "worker", "client") for what, path in
             (("cert", certificate), ("key", key))}  # fmt: skip
    return Security(tls_ca_file=ca, require_encryption=True, **pairs)


def client_security(folder: Path) -> Security:
    """Certificates of a user, from a folder made by `make_certificates`; raises DeviceError."""
    from distributed import Security

    place = folder / _CLIENT if (folder / _CLIENT).is_dir() else folder
    ca, certificate, key = _files(place, _CLIENT)
    return Security(tls_ca_file=ca, tls_client_cert=certificate, tls_client_key=key, require_encryption=True)


def _files(folder: Path, role: str) -> tuple[str, str, str]:
    """Authority, certificate and key; raises DeviceError."""
    names = (_CA, f"{role}.pem", f"{role}-key.pem")
    missing = [name for name in names if not os.access(folder / name, os.R_OK)]
    if missing:
        hint = (
            "copy the folder 'client' of the server's certificates there, or give its place with --certificates"
            if role == _CLIENT
            else "make certificates with --new-certificates FOLDER"
        )
        raise DeviceError(f"{folder} does not contain {' or '.join(missing)}, or they cannot be read; {hint}")
    ca, certificate, key = (str(folder / name) for name in names)
    again = "make new ones with --new-certificates FOLDER" if role == _SERVER else "copy the folder 'client' again"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise DeviceError(
            f"{folder} contains damaged certificates, or a key that belongs to another certificate "
            f"({error.args[-1]}); {again}"
        ) from error
    _check_dates(folder, (ca, certificate))
    if os.name == "posix" and Path(key).stat().st_mode & 0o077:  # Windows keeps permissions elsewhere
        warn_caller(
            f"{key} can be read by other users of this computer, who can then connect as you do; make it private "
            f"with: chmod 600 {key}"
        )
    return ca, certificate, key


def _check_dates(folder: Path, certificates: Sequence[str]) -> None:
    """Raise DeviceError if a certificate is not valid today."""
    from cryptography.x509 import load_pem_x509_certificate

    now = datetime.now(timezone.utc)  # noqa: UP017 - the same name in all supported versions
    for name in certificates:
        found = load_pem_x509_certificate(Path(name).read_bytes())
        if now > found.not_valid_after_utc:
            raise DeviceError(
                f"the certificates in {folder} expired on {found.not_valid_after_utc:%Y-%m-%d}; make new ones on the "
                "server with 'napari-sam2 serve --new-certificates FOLDER', and copy the folder 'client' to all users"
            )
        if now < found.not_valid_before_utc:
            raise DeviceError(
                f"the certificates in {folder} are valid from {found.not_valid_before_utc:%Y-%m-%d} on, and the clock "
                f"of this computer shows {now:%Y-%m-%d}; set the clock"
            )


def _certificate(
    name: str, key: EllipticCurvePrivateKey, authority: tuple[Certificate, EllipticCurvePrivateKey] | None
) -> Certificate:
    """A certificate signed by an authority; without one, that of a new authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing_key = (subject, key) if authority is None else (authority[0].subject, authority[1])
    now = datetime.now(timezone.utc)  # noqa: UP017 - the same name in all supported versions
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_DAYS_VALID))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        .add_extension(
            x509.BasicConstraints(ca=authority is None, path_length=0 if authority is None else None), critical=True
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=authority is not None,
                key_cert_sign=authority is None,
                crl_sign=authority is None,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if authority is not None:
        # a server also connects to its own workers; a user's certificate cannot pose as a server
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if name.endswith(_SERVER):
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def _pem(certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, from the first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
