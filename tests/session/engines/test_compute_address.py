"""Addresses of servers: what is missing is filled in, and nothing unencrypted leaves this computer unasked."""

from __future__ import annotations

import pytest

from napari_sam2 import DeviceError
from napari_sam2.session.engines.compute_address import ComputeAddress, is_loopback


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("tls://box:8786", "tls://box:8786"),
        ("box", "tls://box:8786"),
        ("box:9000", "tls://box:9000"),
        ("localhost", "tcp://localhost:8786"),
        ("127.0.0.1:1", "tcp://127.0.0.1:1"),
        ("tcp://[::1]:8786", "tcp://[::1]:8786"),
        (" tls://10.0.0.7 ", "tls://10.0.0.7:8786"),
    ],
)
def test_protocol_and_port_are_filled_in(given, expected):
    address = ComputeAddress(given)
    assert address.address == expected
    assert address.is_encrypted == expected.startswith("tls")
    assert ComputeAddress(address.address) == address


@pytest.mark.parametrize(
    "given", ["", "tls://", "http://box", "tcp://box:99999", "a b", "tls://box/x", "tls://box:x", "8786"]
)
def test_other_texts_are_refused(given):
    with pytest.raises(DeviceError, match="expected tls://HOST:PORT"):
        ComputeAddress(given)


@pytest.mark.parametrize("given", [5, None, b"box"])
def test_other_types_are_refused(given):
    with pytest.raises(DeviceError, match=r"^address=.* was given; expected a string"):
        ComputeAddress(given)


def test_unencrypted_connections_to_other_computers_must_be_allowed():
    with pytest.raises(DeviceError, match=r"tcp is not encrypted; .*tls://box:8786.*is_insecure=True"):
        ComputeAddress("tcp://box")
    assert ComputeAddress("tcp://box", is_insecure=True).address == "tcp://box:8786"


def test_missing_certificates_are_named(tmp_path):
    with pytest.raises(DeviceError, match=r"does not contain ca\.pem or client\.pem or client-key\.pem"):
        ComputeAddress("tls://box", tmp_path).security()
    assert ComputeAddress("localhost").security() is None


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("LOCALHOST", True), ("box", False)]
)
def test_loopback(host, expected):
    assert is_loopback(host) is expected
