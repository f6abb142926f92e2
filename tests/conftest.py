"""What every test needs: a window system that does not abort, and a cache folder of its own."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Iterator

import pytest

_OPENS_A_VIEWER = {"make_napari_viewer", "make_napari_viewer_proxy"}
_LIMITS_OF_OPENGL = {"get_gl_extensions": "", "get_max_texture_sizes": (16384, 2048)}
_SLOW_TIMEOUT = 3600  # s; of others pyproject.toml has the limit


def pytest_configure(config: pytest.Config) -> None:
    """Choose Qt's platform, which is read when the first application is made and cannot change afterwards.

    Qt aborts the whole run where there is no display. pytest-xvfb starts Xvfb where it is installed and not disabled;
    elsewhere Qt draws into memory.
    """
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    has_xvfb = shutil.which("Xvfb") is not None and not config.getoption("no_xvfb", default=False)
    if sys.platform.startswith("linux") and not has_display and not has_xvfb:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests a limit of their own."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_TIMEOUT))


# A shell that starts the tests in the background has Ctrl-C ignored, in them and in the commands that they start; what
# Ctrl-C does is part of what is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def _imports_are_no_garbage() -> None:
    """Keep what a window imports out of garbage collections, of which each window ends with several of 0.4 s."""
    import napari._qt.qt_main_window  # noqa: F401

    import napari_sam2._qt.main_widget  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _windows_end_quickly(request: pytest.FixtureRequest) -> None:
    if not _OPENS_A_VIEWER.isdisjoint(request.fixturenames):
        request.getfixturevalue("_imports_are_no_garbage")


@pytest.fixture(autouse=True)
def _layers_without_opengl(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let napari show layers where Qt draws into memory, which has no OpenGL context to ask for its limits.

    napari's modules import the two functions by name, and which of them do differs from one release to the next.
    """
    if os.environ.get("QT_QPA_PLATFORM") != "offscreen" or _OPENS_A_VIEWER.isdisjoint(request.fixturenames):
        return
    import napari._vispy.canvas
    import napari._vispy.utils.visual  # noqa: F401 imports the module of every kind of layer

    for module in [module for name, module in sys.modules.items() if name.startswith("napari._vispy")]:
        for function, limit in _LIMITS_OF_OPENGL.items():
            if hasattr(module, function):
                monkeypatch.setattr(module, function, lambda limit=limit: limit)
    from vispy.scene import SceneCanvas

    # to find what is under the mouse, vispy draws the scene
    monkeypatch.setattr(SceneCanvas, "visual_at", lambda *_: None)


@pytest.fixture(autouse=True, scope="session")
def _models_are_loaded_by_the_real_function() -> None:
    """Import what keeps ``load_model`` by name: a first import while a test replaces it would keep the replacement."""
    import napari_sam2.session.engines.local_engine

    assert napari_sam2.load_model is napari_sam2.session.engines.local_engine.load_model


@pytest.fixture(autouse=True)
def _cache_folder_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's downloaded models and settings."""
    monkeypatch.setenv("NAPARI_SAM2_CACHE", str(tmp_path_factory.getbasetemp() / "model-cache"))
    monkeypatch.setenv("NAPARI_SAM2_CONFIG", str(tmp_path_factory.getbasetemp() / "configuration"))
    monkeypatch.setenv("NAPARI_SAM2_SESSIONS", str(tmp_path_factory.mktemp("sessions")))
    for name in ("NAPARI_SAM2_MIRROR", "NAPARI_SAM2_OFFLINE_FOLDER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hangup_not_ignored() -> Iterator[None]:
    """SIGHUP ends processes, as in a terminal; if the tests were started with nohup, it is ignored."""
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
