"""What every test needs: a window system that does not abort, and a cache folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import sys

import pytest

_HAS_DISPLAY = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
_OPENS_A_VIEWER = {"make_napari_viewer", "make_napari_viewer_proxy"}

# Qt aborts the whole run where there is no display. pytest-xvfb starts Xvfb where it is installed; elsewhere Qt draws
# into memory. Qt reads the variable when the first application is made, so it has to be set before any test.
if sys.platform.startswith("linux") and not _HAS_DISPLAY and not shutil.which("Xvfb"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


# A shell that starts the tests in the background has Ctrl-C ignored, in them and in the commands that they start; what
# Ctrl-C does is part of what is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _image_layers_without_opengl(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let napari show images where Qt draws into memory, which has no OpenGL context to ask for its limits."""
    if os.environ.get("QT_QPA_PLATFORM") != "offscreen" or _OPENS_A_VIEWER.isdisjoint(request.fixturenames):
        return
    from napari._vispy.layers import image

    monkeypatch.setattr(image, "get_gl_extensions", lambda: "", raising=False)
    monkeypatch.setattr(image, "get_max_texture_sizes", lambda: (16384, 2048), raising=False)


@pytest.fixture(autouse=True)
def _cache_folder_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's downloaded models and settings."""
    monkeypatch.setenv("NAPARI_SAM2_CACHE", str(tmp_path_factory.getbasetemp() / "model-cache"))
    monkeypatch.setenv("NAPARI_SAM2_SESSIONS", str(tmp_path_factory.mktemp("sessions")))
    for name in ("NAPARI_SAM2_MIRROR", "NAPARI_SAM2_OFFLINE_FOLDER"):
        monkeypatch.delenv(name, raising=False)
