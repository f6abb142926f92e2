"""Where the engine of a session runs: the address of a server, and the certificates that it asks for."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from napari_sam2._arguments import checked_calls
from napari_sam2._errors import DeviceError
from napari_sam2._messages import Message, Option, shown
from napari_sam2.session.engines.configuration import configuration_folder

if TYPE_CHECKING:
    from distributed import Security

__all__ = ["ComputeAddress", "as_compute_address", "default_certificates", "is_loopback"]

_PROTOCOLS = ("tls", "tcp")
DEFAULT_PORT = 8786  # of Dask schedulers


@checked_calls(DeviceError)
@dataclass(frozen=True)
class ComputeAddress:
    """A server that computes for sessions, as started by ``napari-sam2 serve``.

    Parameters
    ----------
    address : str
        Such as ``"tls://box:8786"``. Without a protocol, loopback addresses are ``tcp`` and others ``tls``; the
        default port is 8786.
    certificates : str or Path, optional
        Folder with ``ca.pem``, ``client.pem`` and ``client-key.pem``, as made by ``napari-sam2 serve
        --new-certificates``. Default: ``certificates`` in the configuration folder of napari-sam2.
    is_insecure : bool, default False
        Allow ``tcp`` to other computers: anybody on the network can then read along and run code on both sides.

    Raises
    ------
    DeviceError
        If the address cannot be understood, or is ``tcp`` on another computer without ``is_insecure``.
    """

    address: str
    certificates: str | Path | None = None
    is_insecure: bool = False

    def __post_init__(self) -> None:
        protocol, host, port = _parse(self.address)
        shown = f"[{host}]" if ":" in host else host
        object.__setattr__(self, "address", f"{protocol}://{shown}:{port}")
        if protocol == "tcp" and not is_loopback(host) and not self.is_insecure:
            raise DeviceError(
                Message(
                    f"{self.address} is another computer and tcp is not encrypted; start the server with certificates "
                    f"and give tls://{shown}:{port}, or allow it on a network that you trust with ",
                    Option("is_insecure", "is_insecure=True", "--insecure"),
                )
            )

    @property
    def is_encrypted(self) -> bool:
        """Whether both sides show certificates."""
        return self.address.startswith("tls://")

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Host and port."""
        _, host, port = _parse(self.address)
        return host, port

    def security(self) -> Security | None:
        """The certificates for Dask; None for tcp.

        Raises
        ------
        DeviceError
            If a file is missing.
        """
        from napari_sam2.session.engines.certificates import client_security

        if not self.is_encrypted:
            return None
        folder = default_certificates() if self.certificates is None else Path(self.certificates).expanduser()
        return client_security(folder)


def as_compute_address(compute: str | ComputeAddress | None) -> ComputeAddress | None:
    """The address in a text, and anything else as it is; raises DeviceError."""
    if compute is None or isinstance(compute, ComputeAddress):
        return compute
    return ComputeAddress(compute)


def default_certificates() -> Path:
    """Where certificates are looked for if no folder is given."""
    return configuration_folder() / "certificates"


def is_loopback(host: str) -> bool:
    """Whether a host is this computer, and cannot be reached from others."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _parse(address: str) -> tuple[str, str, int]:
    """Protocol, host and port; raises DeviceError."""
    text = address.strip()
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
        host.encode("idna")
    except ValueError:
        host, port, parts = "", 0, urlsplit("")
    protocol = parts.scheme or ("tcp" if is_loopback(host) else "tls")
    if (
        not host
        or protocol not in _PROTOCOLS
        or parts.path.strip("/")
        or any(c.isspace() for c in host)
        or host.isdecimal()
    ):
        raise DeviceError(
            f"the address {shown(address)} was given; expected tls://HOST:PORT of a server started with "
            "'napari-sam2 serve'"
        )
    return protocol, host, port
