"""Certificates: private files, and each accepted only by those that belong to it, in its own role."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from napari_sam2 import DeviceError, OutputError
from napari_sam2.session.engines import certificates
from napari_sam2.session.engines.certificates import client_security, make_certificates, server_security

pytest.importorskip("cryptography")
pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("certificates") / "new"
    make_certificates(place)
    return place


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> list[bytes | Exception]:
    """What each side of a connection over TLS receives from the other, or why it was refused."""
    found: list[bytes | Exception] = [b"", b""]

    def talk(position: int, plain: socket.socket, context: ssl.SSLContext, *, is_server: bool) -> None:
        try:
            with context.wrap_socket(plain, server_side=is_server) as encrypted:
                encrypted.sendall(b"x")
                found[position] = encrypted.recv(1)
        except OSError as error:
            found[position] = error
            plain.close()

    ends = socket.socketpair()
    for end in ends:
        end.settimeout(20)
    thread = threading.Thread(target=talk, args=(0, ends[0], server), kwargs={"is_server": True})
    thread.start()
    talk(1, ends[1], client, is_server=False)
    thread.join()
    return found


def test_files_can_be_read_by_their_owner_only(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert [path.relative_to(folder).as_posix() for path in files] == [
        f"{role}/{name}" for role in ("client", "server") for name in ("ca.pem", f"{role}-key.pem", f"{role}.pem")
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((folder / "client").stat().st_mode) == 0o700


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps permissions elsewhere")
@pytest.mark.parametrize(("role", "security"), [("server", server_security), ("client", client_security)])
def test_a_key_that_others_can_read_is_warned_of(role, security, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copied")
    key = tmp_path / "copied" / role / f"{role}-key.pem"
    key.chmod(0o640)
    with pytest.warns(UserWarning, match=f"can be read by other users of this computer.*chmod 600 .*{role}-key"):
        security(tmp_path / "copied")


def test_existing_files_are_not_overwritten(folder):
    with pytest.raises(OutputError, match="already holds files"):
        make_certificates(folder)


def test_both_sides_accept_certificates_made_together(folder):
    server, client = server_security(folder), client_security(folder)
    for role in ("scheduler", "worker"):
        listening = server.get_listen_args(role)["ssl_context"]
        assert handshake(listening, client.get_connection_args("client")["ssl_context"]) == [b"x", b"x"]
    assert client_security(folder / "client").tls_ca_file.endswith("client/ca.pem")


def test_certificates_of_others_are_refused(folder, tmp_path):
    make_certificates(tmp_path / "other")
    listening = server_security(folder).get_listen_args("scheduler")["ssl_context"]
    strange = client_security(tmp_path / "other").get_connection_args("client")["ssl_context"]
    assert all(isinstance(error, OSError) for error in handshake(listening, strange))


def test_the_certificate_of_a_user_cannot_pose_as_a_server(folder):
    posing = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    posing.load_cert_chain(folder / "client/client.pem", folder / "client/client-key.pem")
    connecting = client_security(folder).get_connection_args("client")["ssl_context"]
    assert isinstance(handshake(posing, connecting)[1], ssl.SSLCertVerificationError)


def test_damaged_files_and_keys_of_others_are_named(folder, tmp_path):
    make_certificates(tmp_path / "other")
    place = shutil.copytree(folder / "client", tmp_path / "client")
    shutil.copy(tmp_path / "other/client/client-key.pem", place)
    with pytest.raises(DeviceError, match=r"belongs to another certificate .*copy the folder 'client' again"):
        client_security(place)
    place = shutil.copytree(folder / "server", tmp_path / "server")
    (place / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    with pytest.raises(DeviceError, match=r"damaged certificates.*--new-certificates"):
        server_security(place)


@pytest.mark.parametrize(("days", "message"), [(4000, "expired on .*make new ones"), (-4000, "set the clock")])
def test_certificates_that_are_not_valid_today_are_refused(folder, days, message, monkeypatch):
    class Moved(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=days)

    monkeypatch.setattr(certificates, "datetime", Moved)
    for security in (client_security, server_security):
        with pytest.raises(DeviceError, match=message):
            security(folder)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(DeviceError, match=r"does not contain server\.pem .*--new-certificates"):
        server_security(folder / "client")
    with pytest.raises(DeviceError, match="copy the folder 'client'"):
        client_security(tmp_path)
