"""A window whose server is lost says so once, in its status line, and goes on when the server is back."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from napari.utils.notifications import notification_manager
from qt_tools import place_on_canvas
from qtpy.QtCore import Qt

from cli_tools import save_random_model
from factories import make_movie
from napari_sam2._qt.main_widget import SAM2Widget

pytest.importorskip("distributed")

WAIT = 600_000  # ms: processes start slowly on a busy machine
NUM_FRAMES = 24


class Server:
    """``napari-sam2 serve`` on this computer."""

    def __init__(self, weights) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._weights = weights
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", "from napari_sam2.cli import main; main()", "serve", "--port", str(self.port)]
        command += ["--model", str(self._weights), "--device", "cpu", "--workers", "1"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        line = self._process.stdout.readline()
        assert line.startswith(f"serving at {self.address}"), line

    def kill(self) -> None:
        """At once, with its workers."""
        process = psutil.Process(self._process.pid)
        for each in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
        self._process.wait(60)


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    made = Server(save_random_model(tmp_path / "random.safetensors"))
    made.start()
    yield made
    made.kill()


@pytest.mark.slow
def test_a_window_goes_on_when_its_server_is_back(make_napari_viewer, qtbot, server, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM2_SESSIONS", str(tmp_path))
    viewer = make_napari_viewer(show=False)
    viewer.add_image(make_movie(NUM_FRAMES), name="cells")
    widget = SAM2Widget(viewer)
    viewer.window.add_dock_widget(widget, name="SAM 2")
    widget.model.choose(str(tmp_path / "random.safetensors"))
    qtbot.waitUntil(lambda: widget.binding is not None, timeout=WAIT)
    binding, session = widget.binding, widget.binding.session
    widget.advanced.server.setText(server.address)
    widget.advanced.server.editingFinished.emit()

    canvas = viewer.window._qt_viewer.canvas.native
    binding.go_to(2)
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=place_on_canvas(viewer, binding, 20, 19))
    qtbot.waitUntil(lambda: not session.is_busy, timeout=WAIT)
    assert session.model_state.server == server.address
    assert (session.labels[2] == 1).any()

    said = []
    binding.session.model_changed.connect(lambda state: said.append(state.message))
    notified = len(notification_manager.records)
    widget.propagate_both()
    qtbot.waitUntil(lambda: session.handle is not None and session.handle.num_done >= 3, timeout=WAIT)
    server.kill()
    qtbot.waitUntil(lambda: "trying again" in widget.status.text, timeout=WAIT)
    assert "finished frames are kept" in widget.status.text
    assert session.handle.is_running
    kept = np.asarray(session.labels).copy()
    binding.go_to(5)  # the window answers meanwhile, and the message stays
    qtbot.wait(500)
    assert "trying again" in widget.status.text

    server.start()
    qtbot.waitUntil(lambda: not session.is_busy, timeout=WAIT)
    assert session.handle.error is None
    assert session.handle.num_done == session.handle.num_steps == NUM_FRAMES - 1
    assert "trying again" not in widget.status.text
    assert len([text for text in said if "trying again" in text]) == 1
    assert len(notification_manager.records) == notified
    found = np.asarray(session.labels)
    np.testing.assert_array_equal(found[kept > 0], kept[kept > 0])
    widget.advanced.server.setText("")
    widget.advanced.server.editingFinished.emit()
    widget.shut_down()
