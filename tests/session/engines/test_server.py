"""Servers as real processes with TLS: sessions outlive killed workers and restarted servers, and strangers stay out."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from cli_tools import save_random_model
from factories import make_movie
from napari_sam2 import DeviceError
from napari_sam2.session.engines.certificates import make_certificates
from napari_sam2.session.engines.compute_address import ComputeAddress
from napari_sam2.session.session import Session
from napari_sam2.session.state.settings import ModelState

pytest.importorskip("distributed")
pytest.importorskip("cryptography")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NUM_FRAMES = 24
MOVIE = make_movie(NUM_FRAMES)
START_S = 900.0  # on a busy machine


class Server:
    """``napari-sam2 serve`` with certificates, in processes of its own."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.certificates = folder
        self._weights = weights
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"tls://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", "from napari_sam2.cli import main; main()", "serve", "--port", str(self.port)]
        command += ["--certificates", str(self.certificates), "--model", str(self._weights), "--device", "cpu"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith(f"serving at {self.address}"), line

    def workers(self) -> list[psutil.Process]:
        """Worker processes: below the nannies, which the server started."""
        assert self._process is not None
        found = psutil.Process(self._process.pid).children(recursive=True)
        return [p for p in found if "spawn_main" in " ".join(p.cmdline())]

    def end(self, number: int = signal.SIGINT) -> int:
        """Ctrl-C, or another signal; the exit code."""
        assert self._process is not None
        children = self.workers()
        self._process.send_signal(number)
        code = self._process.wait(timeout=START_S)
        for child in children:
            if number == signal.SIGKILL and child.is_running():
                child.kill()
        psutil.wait_procs(children, timeout=60)
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
        return code


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("certificates") / "new"
    make_certificates(folder)
    made = Server(folder, weights)
    made.start()
    yield made
    assert made.end() == 0


def track(session: Session, disturb: Callable[[int], None] = lambda _: None) -> np.ndarray:
    """Track an object, with something done after each frame."""
    session.add_points([[0, 20, 15]])
    handle = session.propagate(block=False)
    seen = 0
    while not handle.wait(0.02):
        if handle.num_done > seen:
            seen = handle.num_done
            disturb(seen)
    assert handle.num_done == handle.num_steps == NUM_FRAMES - 1
    return np.asarray(session.labels).copy()


@pytest.fixture(scope="module")
def expected(weights: Path) -> np.ndarray:
    with Session(MOVIE, model=weights) as session:
        return track(session)


@pytest.mark.parametrize("harm", ["kill a worker", "kill the server", "restart the server"])
def test_tracking_goes_on_where_it_was(harm, server, weights, expected):
    states: list[ModelState] = []
    is_done: list[int] = []
    kept: list[np.ndarray] = []

    def disturb(num_done: int) -> None:
        if num_done < 5 or is_done:
            return
        is_done.append(num_done)
        kept.append(np.asarray(session.labels[:5]).copy())
        if harm == "kill a worker":
            for process in server.workers():
                os.kill(process.pid, signal.SIGKILL)
        else:
            server.end(signal.SIGKILL if harm == "kill the server" else signal.SIGINT)
            server.start()

    compute = ComputeAddress(server.address, server.certificates)
    with Session(MOVIE, model=weights, compute=compute) as session:
        session.model_changed.connect(states.append)
        assert np.array_equal(track(session, disturb), expected)
        assert is_done
        assert np.array_equal(kept[0], expected[:5])
    lost = [state.message for state in states if "trying again" in state.message]
    assert len(lost) <= 1  # none if all frames had been computed ahead
    assert all(message.count("\n") == 0 for message in lost)
    assert states[-1].stage == "ready"


@pytest.mark.parametrize("kind", ["other", "none", "plain"])
def test_without_the_right_certificates_there_is_one_clear_line(kind, server, weights, tmp_path):
    if kind == "other":
        make_certificates(tmp_path / "other")
        compute, message = (
            ComputeAddress(server.address, tmp_path / "other"),
            "certificates do not belong to the server",
        )
    elif kind == "none":
        compute, message = ComputeAddress(server.address, tmp_path), "copy the folder 'client'"
    else:
        compute = ComputeAddress(server.address.replace("tls", "tcp"))
        message = "without encryption; to connect with certificates, give tls://127"
    begin = time.monotonic()
    with Session(MOVIE, model=weights, compute=compute) as session, pytest.raises(DeviceError, match=message) as caught:
        session.add_points([[0, 20, 15]])
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begin < 120
